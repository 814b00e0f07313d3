// Notices across the window that stay until somebody has read them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QString>
#include <QStringList>
#include <QWidget>

#include <functional>
#include <vector>

class QFrame;
class QVBoxLayout;

namespace rankwise::gui {

/// Thread: GUI.
class NoticeBar : public QWidget {
    Q_OBJECT

public:
    explicit NoticeBar(QWidget* parent = nullptr);

    struct Answer {
        QString text;
        std::function<void()> run = {}; ///< Empty: the notice only goes.
    };
    /// Adds a notice; a former one of the same name goes. Each answer closes it. `role` is of the style sheet:
    /// "alarm", or empty.
    QFrame* add(const QString& name, const QString& text, const std::vector<Answer>& answers, const QString& role = {});
    void remove(const QString& name);
    [[nodiscard]] QStringList texts() const;

private:
    QVBoxLayout* m_layout;
};

} // namespace rankwise::gui

// The tabs of the window: one view each, made when it is first looked at.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/gui/view_registry.h"

#include <QJsonObject>
#include <QTabWidget>

#include <memory>
#include <vector>

namespace rankwise::gui {

/// Thread: GUI.
class ViewTabs : public QTabWidget {
    Q_OBJECT

public:
    explicit ViewTabs(std::vector<ViewEntry> entries, QWidget* parent = nullptr);
    ~ViewTabs() override;

    /// What views are made with. To be set before the first one is asked for.
    void setContext(std::unique_ptr<ViewContext> context) { m_context = std::move(context); }
    [[nodiscard]] const ViewContext& context() const { return *m_context; }
    [[nodiscard]] const std::vector<ViewEntry>& entries() const { return m_entries; }
    [[nodiscard]] QStringList ids() const;
    /// The view, made when it is not there; nullptr without such a tab.
    QWidget* make(const QString& id);
    /// The view; nullptr while it was not made.
    [[nodiscard]] QWidget* find(const QString& id) const;
    void showView(const QString& id);
    /// Shows the view in which items of this kind are looked at.
    void showKind(bridge::ItemKind kind);
    [[nodiscard]] QString currentId() const;
    /// Deletes all views, before what they refer to.
    void clear();

    /// "view.ID" for each, and the commands of each.
    void addCommands();
    [[nodiscard]] std::vector<common::PaletteSource> paletteSources() const;
    [[nodiscard]] bool settled() const;

    /// Tab and pages, for sessions.
    [[nodiscard]] QJsonObject save() const;
    void restore(const QJsonObject& saved);

private:
    struct Tab {
        QWidget* page = nullptr; ///< Empty until the view is made.
        QWidget* view = nullptr;
    };
    [[nodiscard]] qsizetype indexOf(const QString& id) const;

    std::vector<ViewEntry> m_entries;
    std::vector<Tab> m_tabs;
    std::unique_ptr<ViewContext> m_context;
};

} // namespace rankwise::gui

// Follows a demo by its folder: the parts of its work, the rollouts so far, the runs that train in it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/data/demo_status.h"

#include <QObject>
#include <QString>
#include <QStringList>

#include <memory>
#include <optional>

namespace rankwise {
class WorkerThread;
}

namespace rankwise::bridge {

/// Reads in a thread of its own; what was read last stays when the folder vanishes. Thread: GUI.
class DemoTail : public QObject {
    Q_OBJECT

public:
    /// `folder` need not be there yet.
    explicit DemoTail(QString folder, QObject* parent = nullptr);
    ~DemoTail() override;

    [[nodiscard]] const QString& folder() const { return m_folder; }
    /// Nothing before the first look that found something.
    [[nodiscard]] const std::optional<data::DemoStatus>& status() const { return m_status; }
    /// Why the last look failed; empty when it did not.
    [[nodiscard]] const QString& problem() const { return m_problem; }
    /// Absolute run directories of the parts that train, in order.
    [[nodiscard]] QStringList runs() const;
    /// The report, where it is written.
    [[nodiscard]] QString report() const;
    /// Name of the part that is worked on: the last one that has begun and is not done. Empty: none.
    [[nodiscard]] QString currentPart() const;

Q_SIGNALS:
    void updated();

private:
    struct Look;
    void apply(const Look& look);

    QString m_folder;
    std::optional<data::DemoStatus> m_status;
    QString m_problem;
    bool m_reported = false;
    std::unique_ptr<WorkerThread> m_worker;
};

} // namespace rankwise::bridge

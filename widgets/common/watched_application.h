// QApplication with a watchdog: measures how long the GUI thread works on each event and logs what took too long.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QApplication>
#include <QString>

#include <cstdint>

namespace rankwise::common {

/// Time of an event without the events inside it, and without the time that other processes had the processor
/// where the system tells that.
class WatchedApplication : public QApplication {
    Q_OBJECT

public:
    WatchedApplication(int& argc, char** argv);

    bool notify(QObject* receiver, QEvent* event) override;

    struct Report {
        double worstSeconds = 0;
        QString worst;             ///< "QPaintEvent of rankwise::common::ImGuiView"
        std::uint64_t events = 0;
        std::uint64_t slow = 0;    ///< Above kSlowSeconds.
    };
    static constexpr double kSlowSeconds = 0.016;

    [[nodiscard]] const Report& report() const { return m_report; }
    void resetReport() { m_report = {}; }

private:
    [[nodiscard]] double waitedSeconds() const;

    Report m_report;
    double m_inner = 0; ///< Seconds spent in events inside the present one.
    int m_schedule = -1; ///< /proc/thread-self/schedstat
};

} // namespace rankwise::common

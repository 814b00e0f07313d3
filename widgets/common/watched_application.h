// QApplication with a watchdog: measures how long the GUI thread works on each event and logs what took too long.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QApplication>
#include <QEvent>
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
        double worstSeconds = 0;     ///< Of wall time.
        QString worst;               ///< "UpdateRequest of rankwise::gui::MainWindow"
        double worstWorkSeconds = 0; ///< As worstSeconds, but painting counts by its processor time in the GUI thread:
                                     ///< a software renderer's threads compete with everything else that runs.
        QString worstWork;
        std::uint64_t events = 0;
        std::uint64_t slow = 0; ///< Above kSlowSeconds.
    };
    static constexpr double kSlowSeconds = 0.016;

    [[nodiscard]] const Report& report() const { return m_report; }
    void resetReport() { m_report = {}; }

private:
    [[nodiscard]] double waitedSeconds() const;
    void note(QEvent::Type type, const char* receiver, double wall, double cpu);

    Report m_report;
    double m_inner = 0;  ///< Seconds spent in events inside the present one.
    int m_schedule = -1; ///< /proc/thread-self/schedstat
};

} // namespace rankwise::common

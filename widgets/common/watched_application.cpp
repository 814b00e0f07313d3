// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/watched_application.h"

#include "backend/base/log.h"

#include <QElapsedTimer>
#include <QEvent>
#include <QMetaEnum>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <ctime>

#include <fcntl.h>
#include <unistd.h>

namespace rankwise::common {

namespace {

/// Processor time of this thread.
double processorSeconds()
{
    timespec now {};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

} // namespace

WatchedApplication::WatchedApplication(int& argc, char** argv)
    : QApplication(argc, argv), m_schedule(::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC))
{
}

double WatchedApplication::waitedSeconds() const
{
    // "<ns on the processor> <ns waiting for it> <slices>"
    std::array<char, 96> text {};
    if (m_schedule < 0 || ::pread(m_schedule, text.data(), text.size() - 1, 0) <= 0) {
        return 0;
    }
    char* end = nullptr;
    (void)std::strtoull(text.data(), &end, 10);
    return static_cast<double>(std::strtoull(end, nullptr, 10)) * 1e-9;
}

bool WatchedApplication::notify(QObject* receiver, QEvent* event)
{
    const double outer = m_inner;
    m_inner = 0;
    const QEvent::Type type = event->type();
    // Read before: the receiver may be gone afterwards.
    const char* const name = receiver->metaObject()->className();
    const double waited = waitedSeconds();
    const double cpuBefore = processorSeconds();
    QElapsedTimer watch;
    watch.start();
    const bool result = QApplication::notify(receiver, event);
    const double whole = static_cast<double>(watch.nsecsElapsed()) * 1e-9;
    const double own = whole - m_inner - (waitedSeconds() - waited);
    m_inner = outer + whole;
    ++m_report.events;
    if (own > kSlowSeconds) {
        note(type, name, own, processorSeconds() - cpuBefore);
    }
    return result;
}

void WatchedApplication::note(QEvent::Type type, const char* receiver, double wall, double cpu)
{
    ++m_report.slow;
    const char* const kind = QMetaEnum::fromType<QEvent::Type>().valueToKey(type);
    const QString what =
        QStringLiteral("%1 of %2").arg(QLatin1String(kind != nullptr ? kind : "event"), QLatin1String(receiver));
    log::debug("gui", "{:.0f} ms ({:.0f} ms of work) in {}", wall * 1000, cpu * 1000, what.toStdString());
    if (wall > m_report.worstSeconds) {
        m_report.worstSeconds = wall;
        m_report.worst = what;
    }
    const bool painting = type == QEvent::UpdateRequest || type == QEvent::Paint || type == QEvent::Expose
        || type == QEvent::Show || type == QEvent::Resize;
    const double work = painting ? std::min(wall, cpu) : wall;
    if (work > m_report.worstWorkSeconds) {
        m_report.worstWorkSeconds = work;
        m_report.worstWork = what;
    }
}

} // namespace rankwise::common

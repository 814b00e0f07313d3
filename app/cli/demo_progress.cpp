// SPDX-License-Identifier: Apache-2.0
#include "app/cli/demo_progress.h"

#include "backend/base/log.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include <unistd.h>

namespace rankwise::cli {

namespace {

constexpr std::chrono::milliseconds kPublishInterval { 500 };
constexpr double kHeartbeatSeconds = 5;
constexpr std::int64_t kThousandths = 1000;

} // namespace

DemoProgress::~DemoProgress()
{
    if (!m_publisher.running()) {
        return;
    }
    m_publisher.requestStop();
    m_publisher.join();
    {
        const std::scoped_lock lock(m_mutex);
        if (m_status.worker.active()) {
            m_status.worker.state = data::RunState::Stopped;
        }
        m_changed = true;
    }
    publish();
}

DemoProgress::Part* DemoProgress::find(const std::string& name)
{
    const auto found = std::ranges::find(m_parts, name, [](const Part& part) { return part.shown.name; });
    return found == m_parts.end() ? nullptr : &*found;
}

void DemoProgress::expect(const std::string& part, double seconds, const std::string& run)
{
    const std::scoped_lock lock(m_mutex);
    Part* known = find(part);
    known = known != nullptr ? known : &m_parts.emplace_back();
    known->shown = { .name = part, .fraction = 0, .run = run };
    known->seconds = seconds;
}

double DemoProgress::fraction() const
{
    double done = 0;
    double all = 1e-9;
    for (const Part& part : m_parts) {
        done += part.seconds * part.shown.fraction;
        all += part.seconds;
    }
    return done / all;
}

void DemoProgress::reached(const std::string& part, double fraction_, const std::string& text)
{
    const std::scoped_lock lock(m_mutex);
    Part* const known = find(part);
    if (known == nullptr) {
        return;
    }
    known->shown.fraction = std::clamp(fraction_, 0.0, 1.0);
    m_status.doing = text;
    m_changed = true;
    m_console.report(fraction(), text);
}

void DemoProgress::count(const std::string& policy, const std::string& task, bool success)
{
    const std::scoped_lock lock(m_mutex);
    auto found = std::ranges::find_if(
        m_status.tallies, [&](const data::DemoTally& tally) { return tally.policy == policy && tally.task == task; });
    if (found == m_status.tallies.end()) {
        m_status.tallies.push_back({ .policy = policy, .task = task });
        found = std::prev(m_status.tallies.end());
    }
    ++found->trials;
    found->successes += success ? 1 : 0;
    m_changed = true;
}

JobContext DemoProgress::context(const std::string& part)
{
    return { .stop = m_console.stop, .progress = [this, part](double fraction_, std::string_view text) {
                reached(part, fraction_, part + ", " + std::string(text));
            } };
}

void DemoProgress::publishTo(const std::filesystem::path& folder, bool quick)
{
    m_folder = folder;
    m_status.quick = quick;
    m_status.worker.pid = ::getpid();
    m_status.worker.pidStart = data::processStartTicks(m_status.worker.pid);
    m_status.worker.host = data::hostName();
    m_status.worker.started = data::unixSeconds();
    m_status.worker.state = data::RunState::Running;
    m_status.worker.total = kThousandths;
    m_publisher = WorkerThread("demo status", [this](const std::stop_token& stop) {
        do {
            publish();
        } while (waitFor(stop, kPublishInterval));
    });
}

void DemoProgress::finish(data::RunState state, const std::string& reason)
{
    const std::scoped_lock lock(m_mutex);
    m_status.worker.state = state;
    m_status.worker.reason = reason;
}

void DemoProgress::publish()
{
    data::DemoStatus status;
    {
        const std::scoped_lock lock(m_mutex);
        const double now = data::unixSeconds();
        if (!m_changed && now - m_status.worker.heartbeat < kHeartbeatSeconds) {
            return;
        }
        m_changed = false;
        m_status.worker.heartbeat = now;
        m_status.worker.step = std::llround(fraction() * static_cast<double>(kThousandths));
        double left = 0;
        for (const Part& part : m_parts) {
            left += part.seconds * (1 - part.shown.fraction);
        }
        m_status.worker.etaSeconds = left;
        status = m_status;
        for (const Part& part : m_parts) {
            status.parts.push_back(part.shown);
        }
    }
    if (const auto written = data::writeDemoStatus(m_folder, status); !written) {
        log::warn("demo", "the status cannot be written: {}", written.error().describe());
    }
}

} // namespace rankwise::cli

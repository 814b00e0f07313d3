// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/run_alarms.h"

#include "widgets/bridge/text.h"

#include <QCoreApplication>

#include <algorithm>
#include <cmath>
#include <span>

namespace rankwise::bridge {

namespace {

QString say(const char* text)
{
    return QCoreApplication::translate("RunAlarms", text);
}

/// Ranks that can move but do not: the same mean in every layer over the last digests, away from capacity and 1.
std::optional<RunAlarm> stuckRanks(const RunRecord& record)
{
    constexpr std::size_t kWindow = 8;
    const std::string method = record.method();
    if (record.digests.size() < kWindow || (method != "lora_sp" && method != "adalora")) {
        return std::nullopt;
    }
    const data::DigestColumns& last = *record.digests.back();
    for (std::size_t back = 1; back < kWindow; ++back) {
        const data::DigestColumns& earlier = *record.digests[record.digests.size() - 1 - back];
        if (earlier.rank.size() != last.rank.size()) {
            return std::nullopt;
        }
        for (std::size_t i = 0; i < last.rank.size(); ++i) {
            if (last.rank[i] != earlier.rank[i]) {
                return std::nullopt;
            }
        }
    }
    return RunAlarm {
        RunAlarm::Kind::StuckRanks, last.step,
        say("No active rank moved over the last %1 digests: the selection does not adapt.").arg(kWindow)
    };
}

std::optional<RunAlarm> deadExpert(const RunRecord& record)
{
    constexpr double kDead = 1e-4;
    if (record.digests.size() < 2) {
        return std::nullopt;
    }
    const data::DigestColumns& last = *record.digests.back();
    const data::DigestColumns& before = *record.digests[record.digests.size() - 2];
    const LayerTable& layers = record.layersOf(last);
    int dead = 0;
    QString first;
    for (std::size_t i = 0; i < last.shares.size() && i < before.shares.size(); ++i) {
        const std::span<const float> now = last.shares.row(i);
        const std::span<const float> earlier = before.shares.row(i);
        for (std::size_t e = 0; e < now.size() && e < earlier.size(); ++e) {
            if (now[e] < kDead && earlier[e] < kDead) {
                if (++dead == 1 && i < layers.size()) {
                    first = QStringLiteral("%1 #%2").arg(shortLayerName(layers[i].path)).arg(e);
                }
            }
        }
    }
    if (dead == 0) {
        return std::nullopt;
    }
    return RunAlarm { RunAlarm::Kind::DeadExpert, last.step,
                      say("%1 experts get under 0.01 % of the routing, the first is %2.").arg(dead).arg(first) };
}

/// The first row from `begin` on that is not finite.
std::optional<RunAlarm> notFiniteFrom(const RunRecord& record, std::size_t begin)
{
    for (std::size_t i = begin; i < record.steps.size(); ++i) {
        if (!std::isfinite(record.steps.loss[i]) || !std::isfinite(record.steps.gradNorm[i])) {
            return RunAlarm { RunAlarm::Kind::NotFinite, static_cast<std::int64_t>(record.steps.step[i]),
                              say("The loss or the gradient norm is not finite from step %1 on.")
                                  .arg(static_cast<qint64>(record.steps.step[i])) };
        }
    }
    return std::nullopt;
}

std::optional<RunAlarm> starvingLoader(const RunRecord& record)
{
    constexpr std::size_t kWindow = 20;
    const std::size_t n = record.steps.size();
    if (n < kWindow) {
        return std::nullopt;
    }
    double load = 0;
    double compute = 0;
    for (std::size_t i = n - kWindow; i < n; ++i) {
        load += record.steps.loadSeconds[i];
        compute += record.steps.computeSeconds[i];
    }
    if (load <= compute) {
        return std::nullopt;
    }
    return RunAlarm { RunAlarm::Kind::StarvingLoader, static_cast<std::int64_t>(record.steps.step[n - 1]),
                      say("Over the last %1 steps waiting for data took %2 % of the time.")
                          .arg(kWindow)
                          .arg(100 * load / (load + compute), 0, 'f', 0) };
}

} // namespace

std::vector<RunAlarm> AlarmWatch::look(const RunRecord& record)
{
    if (m_epoch != record.epoch || m_rows > record.steps.size() || m_digests > record.digests.size()) {
        *this = {};
        m_epoch = record.epoch;
    }
    if (!m_notFinite) {
        m_notFinite = notFiniteFrom(record, m_rows);
    }
    m_rows = record.steps.size();
    if (m_digests != record.digests.size()) {
        m_digests = record.digests.size();
        m_ofDigests.clear();
        for (const auto& find : { stuckRanks, deadExpert }) {
            if (auto alarm = find(record)) {
                m_ofDigests.push_back(std::move(*alarm));
            }
        }
    }
    std::vector<RunAlarm> alarms;
    if (m_notFinite) {
        alarms.push_back(*m_notFinite);
    } else if (record.status && record.status->error && record.status->error->code == Errc::NotFinite) {
        alarms.push_back({ RunAlarm::Kind::NotFinite, record.status->step, toQString(record.status->error->message) });
    }
    alarms.insert(alarms.end(), m_ofDigests.begin(), m_ofDigests.end());
    if (auto alarm = starvingLoader(record)) {
        alarms.push_back(std::move(*alarm));
    }
    for (RunAlarm& alarm : alarms) { // one that was there already keeps the step at which it was raised
        const auto earlier = std::find_if(m_alarms.begin(), m_alarms.end(),
                                          [&](const RunAlarm& other) { return other.kind == alarm.kind; });
        alarm.step = earlier != m_alarms.end() ? earlier->step : alarm.step;
    }
    m_alarms = alarms;
    return alarms;
}

std::vector<RunAlarm> findAlarms(const RunRecord& record)
{
    return AlarmWatch().look(record);
}

} // namespace rankwise::bridge

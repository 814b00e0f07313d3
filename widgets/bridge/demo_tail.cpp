// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/demo_tail.h"

#include "backend/base/worker_thread.h"
#include "widgets/bridge/text.h"

#include <QDir>

#include <algorithm>
#include <chrono>
#include <system_error>
#include <tuple>
#include <utility>

namespace rankwise::bridge {

namespace {
constexpr std::chrono::milliseconds kActiveInterval { 250 };
constexpr std::chrono::milliseconds kIdleInterval { 1000 };
} // namespace

struct DemoTail::Look {
    std::optional<data::DemoStatus> status;
    QString problem;
    bool report = false;
};

DemoTail::DemoTail(QString folder, QObject* parent) : QObject(parent), m_folder(std::move(folder))
{
    m_worker =
        std::make_unique<WorkerThread>("demo-tail", [this, root = toPath(m_folder)](const std::stop_token& stop) {
            bool active = true;
            std::tuple<double, data::RunState, QString, bool> told;
            do {
                auto look = std::make_shared<Look>();
                auto status = data::readDemoStatus(root);
                if (status) {
                    active = status->worker.active();
                    look->status = std::move(*status);
                } else {
                    look->problem = errorSentence(status.error());
                }
                std::error_code error;
                look->report = std::filesystem::exists(root / "report.html", error);
                std::tuple now { look->status ? look->status->worker.heartbeat : 0.0,
                                 look->status ? look->status->worker.state : data::RunState::Lost, look->problem,
                                 look->report };
                if (now != told) {
                    told = std::move(now);
                    QMetaObject::invokeMethod(
                        this, [this, look] { apply(*look); }, Qt::QueuedConnection);
                }
            } while (waitFor(stop, active ? kActiveInterval : kIdleInterval));
        });
}

DemoTail::~DemoTail()
{
    m_worker->requestStop();
    m_worker->join();
}

void DemoTail::apply(const Look& look)
{
    if (look.status) {
        m_status = look.status;
    }
    m_problem = look.problem;
    m_reported = look.report;
    Q_EMIT updated();
}

QStringList DemoTail::runs() const
{
    QStringList paths;
    for (const data::DemoPart& part : m_status ? m_status->parts : std::vector<data::DemoPart>()) {
        if (!part.run.empty()) {
            paths << QDir(m_folder).filePath(toQString(part.run));
        }
    }
    return paths;
}

QString DemoTail::report() const
{
    return m_reported ? QDir(m_folder).filePath(QStringLiteral("report.html")) : QString();
}

QString DemoTail::currentPart() const
{
    QString current;
    for (const data::DemoPart& part : m_status ? m_status->parts : std::vector<data::DemoPart>()) {
        if (part.fraction > 0 && part.fraction < 1) {
            current = toQString(part.name);
        }
    }
    return current;
}

} // namespace rankwise::bridge

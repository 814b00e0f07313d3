// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/rollout_arm.h"

#include "backend/base/log.h"
#include "widgets/bridge/run_control.h"
#include "widgets/bridge/text.h"

#include <QProcessEnvironment>
#include <QTimer>

#include <span>
#include <utility>
#include <variant>

namespace rankwise::bridge {

namespace {

constexpr int kMaxSaid = 4000; ///< Bytes of the process's standard error that are kept.
constexpr int kGraceMs = 3000; ///< Time that a process gets to end by itself.

ArmMode modeOf(const sim::StreamState& state)
{
    return state.paused || state.done ? ArmMode::Hold : ArmMode::Policy;
}

std::shared_ptr<const ArmScene> sceneOf(sim::StreamScene&& message)
{
    auto scene = std::make_shared<ArmScene>();
    scene->title = toQString(message.title);
    scene->shapes = std::move(message.shapes);
    scene->limits = message.limits;
    for (const std::string& camera : message.cameras) {
        scene->cameras << toQString(camera);
    }
    scene->policy = toQString(message.policy);
    scene->controlHz = static_cast<double>(message.controlHz);
    scene->actionSteps = message.actionSteps;
    for (sim::StreamLayer& layer : message.layers) {
        scene->layers.push_back({ std::move(layer.path), layer.group, layer.depth, layer.capacity });
    }
    return scene;
}

} // namespace

RolloutArm::RolloutArm(const RolloutSetup& setup, QObject* parent)
    : ArmSource(parent), m_setup(setup), m_process(new QProcess(this))
{
    QProcessEnvironment environment = QProcessEnvironment::systemEnvironment();
    environment.insert(QStringLiteral("OMP_WAIT_POLICY"), QStringLiteral("PASSIVE"));
    m_process->setProcessEnvironment(environment);
    connect(m_process, &QProcess::readyReadStandardOutput, this, &RolloutArm::read);
    connect(m_process, &QProcess::readyReadStandardError, this,
            [this] { m_said = (m_said + m_process->readAllStandardError()).right(kMaxSaid); });
    connect(m_process, &QProcess::errorOccurred, this, [this](QProcess::ProcessError error) {
        if (error == QProcess::FailedToStart) {
            end(m_process->errorString());
        }
    });
    connect(m_process, &QProcess::finished, this, [this](int code, QProcess::ExitStatus status) {
        read();
        m_said += m_process->readAllStandardError();
        const QString words = QString::fromUtf8(m_said).trimmed().section(QLatin1Char('\n'), -1);
        end(status == QProcess::CrashExit ? tr("The process of the policy ended without a word. %1").arg(words)
                : words.isEmpty()         ? tr("The process of the policy ended with code %1.").arg(code)
                                          : words);
    });
    const QString program = commandProgram();
    if (program.isEmpty()) {
        QTimer::singleShot(0, this, [this] { end(tr("the rankwise program is not beside this one")); });
        return;
    }
    m_process->start(program, arguments(setup));
}

RolloutArm::~RolloutArm()
{
    // The process goes on by itself until it has noticed; waiting for it would freeze the window.
    m_process->disconnect(this);
    if (m_process->state() == QProcess::NotRunning) {
        return;
    }
    request(sim::StreamRequest::Kind::Stop);
    m_process->closeWriteChannel();
    m_process->setParent(nullptr);
    QProcess* const process = m_process;
    connect(process, &QProcess::finished, process, &QObject::deleteLater);
    connect(process, &QProcess::readyReadStandardOutput, process, [process] { process->readAllStandardOutput(); });
    QTimer::singleShot(kGraceMs, process, &QProcess::kill);
}

QStringList RolloutArm::arguments(const RolloutSetup& setup)
{
    QStringList words { QStringLiteral("rollout"),
                        QStringLiteral("--policy"),
                        setup.policy,
                        QStringLiteral("--task"),
                        setup.task,
                        QStringLiteral("--arm"),
                        setup.arm,
                        QStringLiteral("--seed"),
                        QString::number(setup.seed),
                        QStringLiteral("--episode"),
                        QString::number(setup.episode),
                        QStringLiteral("--image-size"),
                        QString::number(setup.imageSize),
                        QStringLiteral("--speed"),
                        QString::number(setup.speed) };
    if (!setup.adapter.isEmpty()) {
        words << QStringLiteral("--adapter") << setup.adapter;
    }
    if (setup.paused) {
        words << QStringLiteral("--paused");
    }
    return words;
}

QString RolloutArm::evalCommand(const RolloutSetup& setup, qint64 episodes)
{
    QString line = QStringLiteral("rankwise eval --policy %1").arg(shellWord(setup.policy));
    if (!setup.adapter.isEmpty()) {
        line += QStringLiteral(" --adapter ") + shellWord(setup.adapter);
    }
    return line
        + QStringLiteral(" --task %1 --arm %2 --seed %3 --episodes %4")
              .arg(setup.task, setup.arm)
              .arg(setup.seed)
              .arg(episodes);
}

void RolloutArm::hold()
{
    request(sim::StreamRequest::Kind::Pause);
}

void RolloutArm::resume()
{
    request(sim::StreamRequest::Kind::Go);
}

void RolloutArm::stepOnce()
{
    request(sim::StreamRequest::Kind::Step);
}

void RolloutArm::resetScene(std::uint64_t episode)
{
    request(sim::StreamRequest::Kind::Episode, static_cast<std::int64_t>(episode));
}

void RolloutArm::request(sim::StreamRequest::Kind kind, std::int64_t index)
{
    const std::vector<std::byte> bytes = sim::encodeRequest({ kind, index });
    m_process->write(reinterpret_cast<const char*>(bytes.data()), static_cast<qint64>(bytes.size()));
}

void RolloutArm::read()
{
    const QByteArray bytes = m_process->readAllStandardOutput();
    m_splitter.add(std::as_bytes(std::span(bytes.constData(), static_cast<std::size_t>(bytes.size()))));
    while (!m_over) {
        const auto message = m_splitter.next();
        if (!message) {
            end(errorSentence(message.error()));
            return;
        }
        if (!*message) {
            return;
        }
        auto decoded = sim::decodeMessage(**message);
        if (!decoded) {
            end(errorSentence(decoded.error()));
            return;
        }
        if (*decoded) {
            take(std::move(**decoded));
        }
    }
}

void RolloutArm::take(sim::StreamMessage message)
{
    if (auto* const scene = std::get_if<sim::StreamScene>(&message)) {
        m_scene = sceneOf(std::move(*scene));
        Q_EMIT connected();
    } else if (const auto* const episode = std::get_if<sim::StreamEpisode>(&message)) {
        m_now.seed = static_cast<std::uint64_t>(episode->index);
        m_now.instruction = toQString(episode->instruction);
        m_now.timeLimit = episode->timeLimit;
        m_now.chunk.reset();
        m_now.ended = m_now.succeeded = false;
    } else if (auto* const images = std::get_if<sim::StreamImages>(&message)) {
        m_now.images.clear();
        for (sim::Image& image : images->images) {
            m_now.images.push_back(
                std::make_shared<const CameraImage>(CameraImage { image.width, image.height, std::move(image.rgb) }));
        }
        ++m_now.imageSequence;
    } else if (auto* const chunk = std::get_if<sim::StreamChunk>(&message)) {
        auto own = std::make_shared<PolicyChunk>();
        own->number = chunk->number;
        own->step = chunk->step;
        own->latency = chunk->latency;
        own->actions = std::move(chunk->actions);
        own->path = std::move(chunk->path);
        own->rank = std::move(chunk->rank);
        own->shares = std::move(chunk->shares);
        own->kinds = std::move(chunk->kinds);
        m_now.chunk = std::move(own);
    } else if (auto* const state = std::get_if<sim::StreamState>(&message)) {
        m_now.sequence = state->sequence;
        m_now.time = state->time;
        m_now.mode = modeOf(*state);
        m_now.measured = state->measured;
        m_now.target = state->target;
        m_now.velocity = state->velocity;
        m_now.torque = state->torque;
        m_now.gripper = state->gripper;
        m_now.poses = std::move(state->poses);
        m_now.ghost = std::move(state->ghost);
        m_now.step = state->step;
        m_now.succeeded = state->success;
        m_now.ended = state->done;
        m_now.loopHz = state->hz;
        m_now.lateTicks = state->late;
        m_now.worstLateness = state->worst;
        m_latest = std::make_shared<const ArmSnapshot>(m_now);
    } else if (const auto* const error = std::get_if<sim::StreamError>(&message)) {
        end(toQString(error->message));
    }
}

/// The stream is over. Before the first state that is a failure to connect, afterwards a stop that the view tells.
void RolloutArm::end(const QString& reason)
{
    if (std::exchange(m_over, true)) {
        return;
    }
    log::warn("robot", "rollout ended: {}", reason.toStdString());
    if (!m_scene) {
        Q_EMIT failed(reason);
        return;
    }
    m_now.error = reason;
    ++m_now.sequence;
    m_latest = std::make_shared<const ArmSnapshot>(m_now);
}

} // namespace rankwise::bridge

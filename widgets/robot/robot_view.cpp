// SPDX-License-Identifier: Apache-2.0
#include "widgets/robot/robot_view.h"

#include "backend/base/resources.h"
#include "backend/eval/statistics.h"
#include "widgets/bridge/practice_arm.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"
#include "widgets/common/vtk_view.h"
#include "widgets/robot/joint_bars.h"
#include "widgets/robot/rollout_panel.h"
#include "widgets/robot/scene_view.h"

#include <QCheckBox>
#include <QComboBox>
#include <QFrame>
#include <QHBoxLayout>
#include <QLabel>
#include <QPushButton>
#include <QSignalBlocker>
#include <QSpinBox>
#include <QSplitter>
#include <QStackedWidget>
#include <QTabWidget>
#include <QToolButton>
#include <QVBoxLayout>

namespace rankwise::robot_view {

using bridge::ArmMode;
using bridge::PracticeArm;

namespace {

constexpr int kFrameMs = 16;
constexpr int kNumbersMs = 90;       ///< Between two looks at bars, curves and words.
constexpr int kSlowFrameMs = 25;     ///< Where drawing takes long: a software renderer shares its cores with others.
constexpr double kSlowPaint = 0.008; ///< Seconds.
constexpr int kCameraPixels = 160;

QString modeText(ArmMode mode)
{
    switch (mode) {
    case ArmMode::Hold:
        return QObject::tr("Hold");
    case ArmMode::Expert:
        return QObject::tr("Expert");
    case ArmMode::Jog:
        return QObject::tr("Jog");
    case ArmMode::Replay:
        return QObject::tr("Replay");
    case ArmMode::Policy:
        return QObject::tr("Policy");
    }
    return {};
}

QString taskTitle(const QString& name)
{
    QString title = name;
    title.replace(QLatin1Char('_'), QLatin1Char(' '));
    title[0] = title[0].toUpper();
    return title;
}

} // namespace

RobotView::RobotView(bridge::Workspace& workspace, common::ActionBinder& actions, QWidget* parent)
    : QWidget(parent), m_stack(new QStackedWidget), m_scene(new SceneView), m_joints(new JointBars(this)),
      m_rollout(new RolloutPanel(workspace)), m_workspace(workspace), m_task(new QComboBox), m_armKind(new QComboBox),
      m_policy(new QComboBox), m_seed(new QSpinBox), m_strip(new QLabel), m_instruction(new QLabel),
      m_follow(new QCheckBox(tr("Replay episode"))), m_stopCard(new QFrame), m_stopText(new QLabel)
{
    connect(&workspace, &bridge::Workspace::stateReplayed, this, [this](const QVector<double>& state) {
        if (!m_arm || !m_follow->isChecked() || state.size() != static_cast<qsizetype>(bridge::kArmValues)) {
            return;
        }
        std::array<double, bridge::kArmValues> values {};
        std::copy(state.begin(), state.end(), values.begin());
        m_arm->show(values);
    });
    for (const QString& task : PracticeArm::tasks()) {
        m_task->addItem(taskTitle(task), task);
    }
    m_task->setAccessibleName(tr("Task"));
    m_seed->setRange(0, 999'999);
    m_seed->setAccessibleName(tr("Seed of the scene"));
    m_seed->setToolTip(tr("Seed of the scene; with a policy the number of the episode, as rankwise eval counts them"));
    m_armKind->addItem(tr("PiPER"), QStringLiteral("piper"));
    m_armKind->addItem(tr("Other arm"), QStringLiteral("generic"));
    m_armKind->setAccessibleName(tr("Arm"));
    m_policy->setAccessibleName(tr("Policy to roll out"));
    m_policy->setToolTip(tr("Open checkpoints, adapters and runs; a run's newest checkpoint is taken"));
    m_policy->setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
    m_policy->setMinimumContentsLength(16);
    m_instruction->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
    auto* bar = new QHBoxLayout;
    bar->setContentsMargins(6, 4, 6, 0);
    bar->addWidget(new QLabel(tr("Task")));
    bar->addWidget(m_task);
    bar->addWidget(m_armKind);
    bar->addWidget(new QLabel(tr("Seed")));
    bar->addWidget(m_seed);
    for (const char* id : { "robot.connect", "robot.expert", "robot.hold", "robot.scene" }) {
        bar->addWidget(actions.button(QLatin1String(id)));
    }
    bar->addStretch(1);
    auto* policyBar = new QHBoxLayout;
    policyBar->setContentsMargins(6, 0, 6, 0);
    policyBar->addWidget(new QLabel(tr("Policy")));
    policyBar->addWidget(m_policy);
    for (const char* id : { "robot.rollout", "robot.resume", "robot.step" }) {
        policyBar->addWidget(actions.button(QLatin1String(id)));
    }
    policyBar->addWidget(m_instruction, 1);

    auto* empty = new QWidget;
    auto* emptyLayout = new QVBoxLayout(empty);
    auto* headline = new QLabel(tr("No arm is connected"));
    headline->setProperty("role", QStringLiteral("title"));
    headline->setAlignment(Qt::AlignCenter);
    auto* hint = new QLabel(
        tr("The practice arm is a simulated AgileX PiPER with two cameras. Nothing moves outside this "
           "machine; it can be held, jogged, and watched while the scripted expert or a policy does a task."));
    hint->setAlignment(Qt::AlignCenter);
    hint->setWordWrap(true);
    auto* start = new QHBoxLayout;
    start->addStretch();
    start->addWidget(actions.button(QStringLiteral("robot.connect"), empty));
    start->addWidget(actions.button(QStringLiteral("robot.rollout"), empty));
    start->addStretch();
    emptyLayout->addStretch();
    emptyLayout->addWidget(headline);
    emptyLayout->addWidget(hint);
    emptyLayout->addLayout(start);
    emptyLayout->addStretch();

    auto* ghost = new QCheckBox(tr("Ghost"));
    ghost->setChecked(true);
    ghost->setToolTip(tr("Orange: where the arm was told to be"));
    m_follow->setToolTip(tr("Shows the recorded states of the episode that plays in Datasets"));
    m_scene->addTool(m_follow);
    m_scene->addTool(ghost);
    auto* side = new QWidget;
    auto* sideLayout = new QVBoxLayout(side);
    sideLayout->setContentsMargins(0, 0, 0, 0);
    auto* tiles = new QHBoxLayout;
    for (std::size_t i = 0; i < m_cameras.size(); ++i) {
        auto* column = new QVBoxLayout;
        m_cameraNames[i] = new QLabel;
        m_cameraNames[i]->setProperty("role", QStringLiteral("heading"));
        m_cameras[i] = new QLabel;
        m_cameras[i]->setFixedSize(kCameraPixels, kCameraPixels);
        column->addWidget(m_cameraNames[i]);
        column->addWidget(m_cameras[i]);
        tiles->addLayout(column);
    }
    tiles->addStretch();
    sideLayout->addLayout(tiles);
    m_rollout->pages().insertTab(0, new common::ChartView(*m_joints), tr("Joints"));
    sideLayout->addWidget(m_rollout, 1);
    auto* splitter = new QSplitter;
    splitter->setObjectName(QStringLiteral("robot.splitter"));
    splitter->addWidget(m_scene);
    splitter->addWidget(side);
    splitter->setStretchFactor(0, 3);
    splitter->setStretchFactor(1, 2);
    splitter->setSizes({ 620, 420 });
    splitter->setChildrenCollapsible(false);
    m_stack->addWidget(empty);
    m_stack->addWidget(splitter);
    buildStopCard();
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(4);
    layout->addLayout(bar);
    layout->addLayout(policyBar);
    layout->addWidget(m_stopCard);
    layout->addWidget(m_stack, 1);
    auto* strip = new QHBoxLayout;
    strip->setContentsMargins(8, 0, 8, 2);
    m_strip->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
    m_strip->setAccessibleName(tr("State of the arm"));
    strip->addWidget(m_strip, 1);
    layout->addLayout(strip);

    connect(ghost, &QCheckBox::toggled, m_scene, &SceneView::setGhostVisible);
    connect(m_joints, &JointBars::jogged, this, [this](int joint, double value) {
        if (!m_arm || !m_arm->latest()) {
            return;
        }
        auto target = m_arm->latest()->target;
        target[static_cast<std::size_t>(joint)] = value;
        m_arm->jog(target);
    });
    for (QComboBox* choice : { m_task, m_armKind }) {
        connect(choice, &QComboBox::activated, this, [this] {
            if (m_rolling) {
                rollOut();
            } else if (m_arm) {
                connectPracticeArm();
            }
        });
    }
    connect(&workspace, &bridge::Workspace::itemAdded, this, &RobotView::fillPolicies);
    connect(&workspace, &bridge::Workspace::itemClosed, this, &RobotView::fillPolicies);
    connect(&workspace, &bridge::Workspace::runSelected, this, [this](const QString& run) {
        if (const int index = m_policy->findData(run); !m_rolling && index >= 0) {
            m_policy->setCurrentIndex(index);
        }
    });
    fillPolicies();
    showPages();
    m_frames.setInterval(kFrameMs);
    m_frames.setTimerType(Qt::PreciseTimer);
    connect(&m_frames, &QTimer::timeout, this, &RobotView::refresh);
}

RobotView::~RobotView() = default;

/// What one sees after a stop that nobody asked for.
void RobotView::buildStopCard()
{
    m_stopCard->setObjectName(QStringLiteral("robot.stopped"));
    m_stopCard->setProperty("role", QStringLiteral("alarm"));
    m_stopCard->setAccessibleName(tr("The arm stopped by itself"));
    m_stopText->setWordWrap(true);
    m_stopText->setTextInteractionFlags(Qt::TextSelectableByMouse | Qt::TextSelectableByKeyboard);
    auto* again = new QPushButton(tr("Start again"));
    auto* close = new QPushButton(tr("Close"));
    auto* row = new QHBoxLayout(m_stopCard);
    row->setContentsMargins(8, 4, 8, 4);
    row->addWidget(m_stopText, 1);
    row->addWidget(again);
    row->addWidget(close);
    m_stopCard->hide();
    connect(again, &QPushButton::clicked, this, [this] {
        const auto start = m_startAgain; // which replaces itself
        start();
    });
    connect(close, &QPushButton::clicked, this, &RobotView::disconnectArm);
}

QStringList RobotView::commandIds()
{
    return {
        QStringLiteral("robot.connect"), QStringLiteral("robot.disconnect"), QString(), QStringLiteral("robot.expert"),
        QStringLiteral("robot.hold"),    QStringLiteral("robot.scene"),      QString(), QStringLiteral("robot.rollout"),
        QStringLiteral("robot.resume"),  QStringLiteral("robot.step")
    };
}

void RobotView::addCommands(bridge::CommandRegistry& commands, std::function<RobotView*(bool)> view)
{
    const QString category = tr("Robot");
    const auto add = [&](const char* id, const QString& text, const char* key, const QString& help,
                         std::function<void(RobotView&)> run, std::function<bool()> enabled,
                         std::function<QString()> commandLine = {}) {
        commands.add({ .id = QLatin1String(id),
                       .category = category,
                       .text = text,
                       .key = QLatin1String(key),
                       .help = help,
                       .run = [view, run = std::move(run)] { run(*view(true)); },
                       .enabled = std::move(enabled),
                       .commandLine = std::move(commandLine) });
    };
    const auto connected = [view] {
        const RobotView* robot = view(false);
        return robot != nullptr && robot->connected();
    };
    add("robot.connect", tr("Start the practice arm"), "Ctrl+Shift+P",
        tr("A simulated PiPER; nothing outside this machine moves"),
        [](RobotView& robot) { robot.connectPracticeArm(); }, {});
    add(
        "robot.disconnect", tr("Disconnect the arm"), "", {}, [](RobotView& robot) { robot.disconnectArm(); },
        connected);
    add(
        "robot.expert", tr("Expert"), "Ctrl+E",
        tr("The scripted expert does the task of the scene; motion cannot be undone"),
        [](RobotView& robot) { robot.runExpert(); },
        [view, connected] { return connected() && !view(false)->rollingOut(); });
    add(
        "robot.hold", tr("Hold"), "Space", tr("Keeps the present position"), [](RobotView& robot) { robot.hold(); },
        connected);
    add(
        "robot.scene", tr("New scene"), "Ctrl+R", tr("Places the objects anew, with the next seed"),
        [](RobotView& robot) { robot.newScene(); }, connected);
    const auto rolling = [view] {
        const RobotView* robot = view(false);
        return robot != nullptr && robot->rollingOut();
    };
    add(
        "robot.rollout", tr("Roll out"), "Ctrl+Shift+R",
        tr("The chosen policy drives the practice arm; motion cannot be undone"),
        [](RobotView& robot) { robot.rollOut(); }, {},
        [view] {
            const RobotView* robot = view(false);
            const bridge::RolloutSetup setup = robot != nullptr ? robot->chosenSetup() : bridge::RolloutSetup();
            return setup.policy.isEmpty() ? QString() : bridge::RolloutArm::evalCommand(setup, setup.episode + 1);
        });
    add(
        "robot.resume", tr("Go on"), "Ctrl+Shift+Space", tr("The policy goes on after a hold"),
        [](RobotView& robot) { robot.resume(); }, rolling);
    add(
        "robot.step", tr("One action"), "Ctrl+.", tr("The policy runs one action, a tenth of a second, and holds"),
        [](RobotView& robot) { robot.stepOnce(); }, rolling);
}

void RobotView::connectPracticeArm()
{
    m_startAgain = [this] { connectPracticeArm(); };
    take(std::make_unique<PracticeArm>(m_task->currentData().toString(), static_cast<std::uint64_t>(m_seed->value()),
                                       kCameraPixels, m_armKind->currentData().toString()),
         tr("The practice arm is connected. It is a simulation."));
}

void RobotView::rollOut()
{
    const bridge::RolloutSetup setup = chosenSetup();
    if (setup.policy.isEmpty()) {
        Q_EMIT message(tr("Choose a policy first: open a checkpoint, an adapter or a run."));
        return;
    }
    rollOut(setup);
}

void RobotView::rollOut(const bridge::RolloutSetup& setup)
{
    m_startAgain = [this, setup] { rollOut(setup); };
    take(std::make_unique<bridge::RolloutArm>(setup),
         tr("The policy has the practice arm. Space holds it; nothing outside this machine moves."));
    m_strip->setText(tr("Loading the policy…"));
}

/// Everything of the arm before goes; `arm` shows itself when it has connected.
void RobotView::take(std::unique_ptr<bridge::ArmSource> arm, const QString& greeting)
{
    m_scene->setScene(nullptr);
    m_joints->setScene(nullptr);
    m_rollout->setScene(nullptr);
    m_sequence = m_imageSequence = 0;
    m_wasSuccess = m_wasEnded = false;
    m_ended = m_succeeded = 0;
    m_rolling = qobject_cast<bridge::RolloutArm*>(arm.get()) != nullptr;
    m_arm = std::move(arm);
    m_stopCard->hide();
    m_strip->setText(tr("Loading the scene…"));
    connect(m_arm.get(), &bridge::ArmSource::connected, this, [this, greeting] {
        const auto scene = m_arm->scene();
        m_scene->setScene(scene);
        m_joints->setScene(scene);
        m_rollout->setScene(scene);
        for (std::size_t i = 0; i < m_cameras.size(); ++i) {
            const auto index = static_cast<qsizetype>(i);
            m_cameraNames[i]->setText(index < scene->cameras.size() ? tr("%1 camera").arg(scene->cameras[index])
                                                                    : QString());
        }
        m_stack->setCurrentIndex(1);
        showPages();
        m_frames.start();
        Q_EMIT message(greeting);
        Q_EMIT armChanged();
    });
    connect(m_arm.get(), &bridge::ArmSource::failed, this, [this](const QString& reason) {
        Q_EMIT message(tr("The arm cannot start: %1").arg(reason));
        const QString words = reason;
        QTimer::singleShot(0, this, [this, words] {
            disconnectArm();
            m_strip->setText(words);
        });
    });
    Q_EMIT armChanged();
}

/// The shipped policy and what is open.
void RobotView::fillPolicies()
{
    const QString chosen = m_policy->currentData().toString();
    const QSignalBlocker blocker(m_policy);
    m_policy->clear();
    if (const auto nano = resourcePath("nano")) {
        m_policy->addItem(tr("nano (shipped)"), bridge::toQString(nano->string()));
    }
    for (const bridge::WorkspaceItem& item : m_workspace.items()) {
        if (item.kind == bridge::ItemKind::Run || item.kind == bridge::ItemKind::Checkpoint
            || item.kind == bridge::ItemKind::Adapter) {
            m_policy->addItem(tr("%1 (%2)").arg(item.title(), bridge::itemKindName(item.kind)), item.path);
        }
    }
    const int again = m_policy->findData(chosen);
    // What was opened last is what one wants to see.
    m_policy->setCurrentIndex(again > 0 ? again : m_policy->count() - 1);
}

bridge::RolloutSetup RobotView::chosenSetup() const
{
    bridge::RolloutSetup setup;
    const QString path = m_policy->currentData().toString();
    setup.policy = path;
    if (const bridge::RunTail* run = m_workspace.run(path)) {
        setup.adapter = path;
        setup.policy = run->record().basePolicy();
    }
    setup.task = m_task->currentData().toString();
    setup.arm = m_armKind->currentData().toString();
    setup.episode = m_seed->value();
    setup.imageSize = kCameraPixels;
    return setup;
}

/// Pages of the policy are there while one has the arm.
void RobotView::showPages()
{
    for (int page = 1; page < m_rollout->pages().count(); ++page) {
        m_rollout->pages().setTabVisible(page, m_rolling);
    }
    if (m_rolling) {
        m_rollout->pages().setCurrentIndex(1);
    }
}

void RobotView::resume()
{
    if (m_arm) {
        m_arm->resume();
    }
}

void RobotView::stepOnce()
{
    if (m_arm) {
        m_arm->stepOnce();
    }
}

void RobotView::disconnectArm()
{
    m_frames.stop();
    m_arm.reset();
    m_rolling = false;
    m_scene->setScene(nullptr);
    m_joints->setScene(nullptr);
    m_rollout->setScene(nullptr);
    showPages();
    m_stopCard->hide();
    m_stack->setCurrentIndex(0);
    m_instruction->clear();
    m_strip->clear();
    Q_EMIT armChanged();
}

void RobotView::hold()
{
    if (m_arm) {
        m_arm->hold();
    }
}

void RobotView::runExpert()
{
    if (m_arm) {
        m_wasSuccess = false;
        m_arm->runExpert();
    }
}

void RobotView::newScene()
{
    if (m_arm) {
        m_seed->setValue(m_seed->value() + 1);
        m_wasSuccess = false;
        if (!m_rolling) {
            m_arm->hold();
        }
        m_arm->resetScene(static_cast<std::uint64_t>(m_seed->value()));
    }
}

QString RobotView::stripText() const
{
    return m_strip->text();
}

void RobotView::showEvent(QShowEvent* event)
{
    if (m_arm && m_arm->scene()) {
        m_frames.start();
    }
    QWidget::showEvent(event);
}

void RobotView::hideEvent(QHideEvent* event)
{
    m_frames.stop(); // The arm goes on; nobody looks.
    QWidget::hideEvent(event);
}

void RobotView::refresh()
{
    const auto snapshot = m_arm ? m_arm->latest() : nullptr;
    if (!snapshot) {
        return;
    }
    if (snapshot->sequence != m_sequence) {
        m_sequence = snapshot->sequence;
        const bool slow = m_scene->canvas() != nullptr && m_scene->canvas()->paintSeconds() > kSlowPaint;
        m_frames.setInterval(slow ? kSlowFrameMs : kFrameMs);
        m_scene->setSnapshot(snapshot);
        m_rollout->setSnapshot(snapshot);
        showCameras(*snapshot);
        m_stale = true;
    }
    // Eyes follow motion; numbers and curves are read, and cost as much to draw.
    if (m_stale && (!m_sinceNumbers.isValid() || m_sinceNumbers.elapsed() >= kNumbersMs)) {
        m_stale = false;
        m_sinceNumbers.start();
        showNumbers(snapshot);
    }
}

void RobotView::showNumbers(const std::shared_ptr<const bridge::ArmSnapshot>& snapshot)
{
    m_joints->setSnapshot(snapshot);
    m_rollout->redraw();
    if (m_rolling) {
        m_scene->setPaths(snapshot->chunk ? snapshot->chunk->path : std::vector<std::array<float, 3>>(),
                          m_rollout->trail());
    }
    m_instruction->setText(QStringLiteral("“%1”").arg(snapshot->instruction));
    m_instruction->setToolTip(snapshot->instruction);
    QString text = tr("● %1").arg(modeText(snapshot->mode));
    if (!snapshot->phase.isEmpty()) {
        text += tr(" · %1").arg(snapshot->phase);
    }
    if (m_rolling) {
        text += tr(" · episode %1, action %2 of %3").arg(snapshot->seed).arg(snapshot->step).arg(snapshot->timeLimit);
        if (snapshot->chunk) {
            text += tr(" · chunk %1 in %2 ms")
                        .arg(snapshot->chunk->number + 1)
                        .arg(snapshot->chunk->latency * 1000, 0, 'f', 0);
        }
        if (m_ended > 0) {
            text += tr(" · done %1").arg(tallyText());
        }
    }
    text += tr(" · %1 s · loop %2 Hz, %3 late ticks, worst %4 ms · gripper %5, %6, %7 mm · practice arm")
                .arg(snapshot->time, 0, 'f', 1)
                .arg(snapshot->loopHz, 0, 'f', 1)
                .arg(snapshot->lateTicks)
                .arg(snapshot->worstLateness * 1000, 0, 'f', 0)
                .arg(snapshot->gripper[0] * 1000, 0, 'f', 0)
                .arg(snapshot->gripper[1] * 1000, 0, 'f', 0)
                .arg(snapshot->gripper[2] * 1000, 0, 'f', 0);
    if (!m_rolling) {
        text += tr(", seed %1").arg(snapshot->seed);
    }
    if (snapshot->succeeded) {
        text += tr(" · task done ✓");
    } else if (snapshot->ended) {
        text += tr(" · time is up ✗");
    }
    m_strip->setText(text);
    m_strip->setToolTip(text);
    if (m_rolling) {
        tellEnd(*snapshot);
    } else if (snapshot->succeeded && !m_wasSuccess) {
        m_wasSuccess = true;
        Q_EMIT message(tr("The task is done after %1 s.").arg(snapshot->time, 0, 'f', 1));
    }
    if (!snapshot->error.isEmpty()) {
        stopped(*snapshot);
    }
}

/// The arm is gone; its last picture, curves and numbers stay.
void RobotView::stopped(const bridge::ArmSnapshot& snapshot)
{
    m_frames.stop();
    m_arm.reset();
    m_rolling = false;
    m_strip->setText(tr("● Stopped by itself · %1 s").arg(snapshot.time, 0, 'f', 1));
    m_stopText->setText(tr("<b>The arm stopped by itself: %1</b><br>Last state: %2 s into the scene, action %3, loop "
                           "%4 Hz, worst lateness %5 ms. Nothing moves; the pictures and curves below are the last "
                           "that came. The log has the details.")
                            .arg(snapshot.error.toHtmlEscaped())
                            .arg(snapshot.time, 0, 'f', 1)
                            .arg(snapshot.step)
                            .arg(snapshot.loopHz, 0, 'f', 1)
                            .arg(snapshot.worstLateness * 1000, 0, 'f', 0));
    m_stopCard->show();
    Q_EMIT message(tr("The arm stopped by itself: %1").arg(snapshot.error));
    Q_EMIT armChanged();
}

/// Count, rate and 95 % Wilson interval of the episodes that ended.
QString RobotView::tallyText() const
{
    return bridge::toQString(eval::successText({ .successes = m_succeeded, .trials = m_ended }));
}

/// Counts an episode of the policy once, when it ends.
void RobotView::tellEnd(const bridge::ArmSnapshot& snapshot)
{
    if (snapshot.ended && !m_wasEnded) {
        ++m_ended;
        m_succeeded += snapshot.succeeded ? 1 : 0;
        const QString outcome = snapshot.succeeded
            ? tr("Episode %1: the task is done after %2 s.").arg(snapshot.seed).arg(snapshot.time, 0, 'f', 1)
            : tr("Episode %1: not done within %2 actions.").arg(snapshot.seed).arg(snapshot.timeLimit);
        Q_EMIT message(tr("%1 Done so far: %2.").arg(outcome, tallyText()));
    }
    m_wasEnded = snapshot.ended;
}

void RobotView::showCameras(const bridge::ArmSnapshot& snapshot)
{
    if (snapshot.imageSequence == m_imageSequence) {
        return;
    }
    m_imageSequence = snapshot.imageSequence;
    for (std::size_t i = 0; i < m_cameras.size() && i < snapshot.images.size(); ++i) {
        const bridge::CameraImage& image = *snapshot.images[i];
        m_cameras[i]->setPixmap(QPixmap::fromImage(
            QImage(image.rgb.data(), image.width, image.height, 3 * image.width, QImage::Format_RGB888)));
    }
}

} // namespace rankwise::robot_view

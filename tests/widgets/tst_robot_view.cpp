// The practice arm, the messages of a rollout, and the robot view of the real window. Needs a display.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"
#include "backend/sim/rollout_stream.h"
#include "tests/widgets/window_fixture.h"
#include "widgets/bridge/practice_arm.h"
#include "widgets/common/theme.h"
#include "widgets/common/vtk_view.h"
#include "widgets/robot/joint_bars.h"
#include "widgets/robot/robot_view.h"
#include "widgets/robot/scene_view.h"

#include <QElapsedTimer>
#include <QSignalSpy>

#include <cmath>

using namespace rankwise;
using tests::colors;
using tests::kPatience;
using tests::optionsIn;

class TestRobotView : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void initTestCase() { tests::openGlIsAsExpected(); }

    void rolloutMessagesSurvive();
    void brokenRolloutMessagesAreErrors();
    void practiceArmRunsInRealTime();
    void robotViewShowsExpertAndHolds();
    void guiThreadStaysResponsive() { tests::guiThreadStaysResponsive(); }
};

namespace {

std::vector<sim::StreamMessage> rolloutMessages()
{
    sim::StreamScene scene;
    scene.title = "press_button";
    scene.arm = "piper";
    scene.policy = "nano";
    scene.limits[2] = { -1.5, 2.5 };
    scene.cameras = { "front", "wrist" };
    scene.actionSteps = 8;
    scene.shapes = { { sim::SceneShape::Kind::Capsule, { 0.1, 0.2, 0 }, { 1, 0.5F, 0, 1 }, "link", true } };
    scene.layers = { { "a.q_proj", 2, 3, 16 } };
    sim::StreamState state;
    state.sequence = 7;
    state.time = 0.5;
    state.step = 5;
    state.success = true;
    state.measured = { 1, 2, 3, 4, 5, 6, 0.07 };
    state.poses = std::vector<sim::ShapePose>(2);
    state.poses[1].position = { 1, 2, 3 };
    state.ghost = state.poses;
    sim::StreamImages images;
    images.step = 2;
    images.images = { { 2, 1, { 1, 2, 3, 4, 5, 6 } } };
    sim::StreamChunk chunk;
    chunk.number = 1;
    chunk.latency = 0.02;
    chunk.actions = { { 0.5, 0, 0, 0, 0, 0, 0.25 } };
    chunk.path = { { 1, 2, 3 } };
    chunk.rank = { 3.5F };
    chunk.energy = { 0.9F };
    chunk.shares = { { 0.25F, 0.75F } };
    chunk.kinds = { { 0, 3, 0.5F, 0.5F } };
    return { scene,
             sim::StreamEpisode { 3, 1'234'567'890'123'456'789U, "press it", 100 },
             state,
             images,
             chunk,
             sim::StreamEnd { 3, true, 42, 4.5 },
             sim::StreamError { "no" } };
}

} // namespace

void TestRobotView::rolloutMessagesSurvive()
{
    sim::MessageSplitter splitter;
    std::vector<std::vector<std::byte>> sent;
    for (const sim::StreamMessage& message : rolloutMessages()) {
        sent.push_back(sim::encodeMessage(message));
    }
    // In pieces of every length.
    std::vector<std::byte> all;
    for (const auto& bytes : sent) {
        all.insert(all.end(), bytes.begin(), bytes.end());
    }
    std::size_t got = 0;
    for (std::size_t at = 0, piece = 1; at < all.size(); at += piece, piece = piece % 97 + 1) {
        splitter.add(std::span(all).subspan(at, std::min(piece, all.size() - at)));
        while (true) {
            const auto next = splitter.next();
            QVERIFY(next.has_value());
            if (!*next) {
                break;
            }
            const auto decoded = sim::decodeMessage(**next);
            QVERIFY2(decoded.has_value(), decoded ? "" : decoded.error().describe().c_str());
            QVERIFY(decoded->has_value());
            QCOMPARE(sim::encodeMessage(**decoded), sent[got]); // nothing is lost on the way
            ++got;
        }
    }
    QCOMPARE(got, sent.size());
    for (const auto kind : { sim::StreamRequest::Kind::Pause, sim::StreamRequest::Kind::Episode }) {
        const auto bytes = sim::encodeRequest({ kind, 12 });
        const auto request = sim::decodeRequest(std::span(bytes).subspan(4));
        QVERIFY(request.has_value());
        QVERIFY(request->kind == kind);
        QCOMPARE(request->index, std::int64_t(12));
    }
}

void TestRobotView::brokenRolloutMessagesAreErrors()
{
    for (const sim::StreamMessage& message : rolloutMessages()) {
        const std::vector<std::byte> bytes = sim::encodeMessage(message);
        const std::span<const std::byte> body = std::span(bytes).subspan(4);
        for (std::size_t length = 0; length < body.size(); ++length) {
            QVERIFY(!sim::decodeMessage(body.first(length)).has_value());
        }
        for (std::size_t i = 0; i < body.size(); ++i) { // may be another message, must not crash
            std::vector<std::byte> changed(body.begin(), body.end());
            changed[i] ^= std::byte { 0xa5 };
            (void)sim::decodeMessage(changed);
        }
    }
    sim::MessageSplitter splitter;
    const std::array<std::byte, 4> huge { std::byte { 0xff }, std::byte { 0xff }, std::byte { 0xff },
                                          std::byte { 0x7f } };
    splitter.add(huge);
    QVERIFY(!splitter.next().has_value());
}

void TestRobotView::practiceArmRunsInRealTime()
{
    bridge::PracticeArm arm(QStringLiteral("press_button"), 3, 0);
    QSignalSpy connected(&arm, &bridge::ArmSource::connected);
    QVERIFY(connected.wait(kPatience));
    QVERIFY(arm.scene()->shapes.size() > 10);
    QTRY_VERIFY_WITH_TIMEOUT(arm.latest() != nullptr, kPatience);
    // Simulated time keeps up with the wall's.
    const double simulated = arm.latest()->time;
    QElapsedTimer watch;
    watch.start();
    QTest::qWait(1500);
    const double ratio = (arm.latest()->time - simulated) / (static_cast<double>(watch.elapsed()) / 1000);
    QVERIFY2(ratio > 0.6 && ratio < 1.1, qPrintable(QString::number(ratio)));
    // Jogging goes where it is told, and stops at the limits.
    auto target = arm.latest()->measured;
    target[0] += 0.3;
    arm.jog(target);
    QTRY_VERIFY_WITH_TIMEOUT(std::abs(arm.latest()->measured[0] - target[0]) < 0.03, kPatience);
    target[0] = 100;
    arm.jog(target);
    QTRY_COMPARE_WITH_TIMEOUT(arm.latest()->target[0], arm.scene()->limits[0][1], kPatience);
    arm.hold();
    QTRY_VERIFY_WITH_TIMEOUT(arm.latest()->mode == bridge::ArmMode::Hold, kPatience);
    const double held = arm.latest()->target[0];
    QTest::qWait(300);
    QVERIFY(std::abs(arm.latest()->measured[0] - held) < 0.1);
    // A recorded state is shown at once.
    auto state = target;
    state = arm.latest()->measured;
    state[1] += 0.2;
    arm.show(state);
    QTRY_VERIFY_WITH_TIMEOUT(std::abs(arm.latest()->measured[1] - state[1]) < 1e-6, kPatience);
    arm.resetScene(8);
    QTRY_COMPARE_WITH_TIMEOUT(arm.latest()->seed, std::uint64_t(8), kPatience);

    bridge::PracticeArm unknown(QStringLiteral("juggle"), 0, 0);
    QSignalSpy failed(&unknown, &bridge::ArmSource::failed);
    QVERIFY(failed.wait(kPatience));
}

void TestRobotView::robotViewShowsExpertAndHolds()
{
    QTemporaryDir folder;
    gui::MainWindow window(optionsIn(folder));
    window.show();
    QVERIFY(!window.commands().isEnabled(QStringLiteral("robot.hold")));
    QVERIFY(window.commands().trigger(QStringLiteral("robot.connect")));
    robot_view::RobotView* robot = window.robotView(true);
    QTRY_VERIFY_WITH_TIMEOUT(robot->arm() != nullptr && robot->arm()->latest() != nullptr && !robot->joints().isEmpty(),
                             kPatience);
    QTest::qWait(300);
    // The picture shows a lit scene, not a flat field.
    QVERIFY(robot->scene().canvas() != nullptr);
    const QImage picture = robot->scene().canvas()->picture(1);
    QVERIFY2(colors(picture, 200) > 60, qPrintable(QString::number(colors(picture, 200))));
    const QRgb background = picture.pixel(3, 3);
    QCOMPARE(QColor(background), common::currentTheme().base);
    const auto before = robot->arm()->latest()->measured;
    QVERIFY(window.commands().trigger(QStringLiteral("robot.expert")));
    QTRY_VERIFY_WITH_TIMEOUT(std::abs(robot->arm()->latest()->measured[1] - before[1]) > 0.02, kPatience);
    QTest::keyClick(&window, Qt::Key_Space); // Hold
    QTRY_VERIFY_WITH_TIMEOUT(robot->arm()->latest()->mode == bridge::ArmMode::Hold, kPatience);
    QTRY_VERIFY_WITH_TIMEOUT(robot->stripText().contains(QStringLiteral("Hold")), kPatience);
    const auto target = robot->arm()->latest()->target;
    Q_EMIT robot->joints().jogged(0, target[0] + 0.2);
    QTRY_VERIFY_WITH_TIMEOUT(robot->arm()->latest()->target[0] > target[0] + 0.1, kPatience);
    robot->scene().showTable(true);
    QVERIFY(robot->scene().table()->rowCount() > 10);
    QVERIFY(window.commands().trigger(QStringLiteral("robot.expert")));
    QTRY_VERIFY_WITH_TIMEOUT(robot->arm()->latest()->succeeded, 40'000);
    QVERIFY(window.commands().trigger(QStringLiteral("robot.disconnect")));
    QVERIFY(!robot->connected());
}

int main(int argc, char** argv)
{
    return tests::runTest<TestRobotView>(argc, argv);
}

#include "tst_robot_view.moc"

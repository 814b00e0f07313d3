// The practice arm: scenes, kinematics against the reference vectors, determinism to the last bit, experts, pictures,
// labels, the generator of episodes and their recording.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/json.h"
#include "backend/base/resources.h"
#include "backend/data/dataset_reader.h"
#include "backend/sim/arm_kinematics.h"
#include "backend/sim/environment.h"
#include "backend/sim/episode_generator.h"
#include "backend/sim/expert.h"
#include "backend/sim/random.h"
#include "backend/sim/record.h"
#include "backend/sim/task.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numbers>
#include <set>

#include <nlohmann/json.hpp>

#include <QCoreApplication>
#include <QProcess>
#include <QTemporaryDir>
#include <QTest>

using namespace rankwise;
using namespace rankwise::sim;
namespace fs = std::filesystem;

namespace {

constexpr int kDisturbedSeeds = 25;
constexpr const char* kHashVariable = "RANKWISE_TST_SIM_HASH";

/// Stops the test with the error's own words, which name missing packages.
#define RW_VERIFY(expression)                                                                                          \
    do {                                                                                                               \
        const auto& rwVerified = (expression);                                                                         \
        QVERIFY2(rwVerified.has_value(), rwVerified ? "" : rwVerified.error().describe().c_str());                     \
    } while (false)

std::unique_ptr<Environment> makeEnvironment(const std::string& task, const EnvironmentOptions& options = {})
{
    auto environment = Environment::create(task, options);
    if (!environment) {
        qFatal("%s", environment.error().describe().c_str());
    }
    return std::move(*environment);
}

Action holdAction(const Environment& environment)
{
    Action action {};
    const StateVector state = environment.state();
    for (std::size_t i = 0; i < action.size(); ++i) {
        action[i] = static_cast<double>(state[i]);
    }
    return action;
}

void addBytes(std::uint64_t& hash, const void* data, std::size_t size)
{
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (std::size_t i = 0; i < size; ++i) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
}

/// Everything that an expert's episode shows, as one number.
std::uint64_t episodeHash(const std::string& task, std::uint64_t seed, int size)
{
    const auto environment = makeEnvironment(task);
    Expert expert(*environment);
    GeneratorOptions options;
    options.width = size;
    options.height = size;
    const auto episode = rollExpert(*environment, expert, seed, options);
    if (!episode) {
        qFatal("%s", episode.error().describe().c_str());
    }
    std::uint64_t hash = 0xcbf29ce484222325u;
    for (const EpisodeFrame& frame : episode->frames) {
        addBytes(hash, frame.state.data(), sizeof frame.state);
        addBytes(hash, frame.action.data(), sizeof frame.action);
        for (const Image& image : frame.images) {
            addBytes(hash, image.rgb.data(), image.rgb.size());
        }
    }
    const EpisodeState end = environment->save();
    addBytes(hash, end.physics.data(), end.physics.size() * sizeof(double));
    return hash;
}

Mat3 fixedAxesRotation(double rx, double ry, double rz)
{
    return axisRotation({ 0, 0, 1 }, rz) * axisRotation({ 0, 1, 0 }, ry) * axisRotation({ 1, 0, 0 }, rx);
}

std::array<int, 3> pixelAt(const Image& image, const ImagePoint& point)
{
    const int x = std::clamp(static_cast<int>(point.u * image.width), 0, image.width - 1);
    const int y = std::clamp(static_cast<int>(point.v * image.height), 0, image.height - 1);
    const auto at = static_cast<std::size_t>(3 * (y * image.width + x));
    return { image.rgb[at], image.rgb[at + 1], image.rgb[at + 2] };
}

double deviation(const Image& image)
{
    double sum = 0;
    double squares = 0;
    for (const std::uint8_t v : image.rgb) {
        sum += v;
        squares += static_cast<double>(v) * v;
    }
    const auto n = static_cast<double>(image.rgb.size());
    return std::sqrt(squares / n - (sum / n) * (sum / n));
}

void addTaskRows()
{
    QTest::addColumn<QString>("task");
    QTest::addColumn<QString>("arm");
    for (const char* arm : { "piper", "generic" }) {
        for (const std::string& task : taskNames()) {
            QTest::addRow("%s %s", arm, task.c_str()) << QString::fromStdString(task) << QString::fromLatin1(arm);
        }
    }
}

EnvironmentOptions armOptions(const QString& arm)
{
    EnvironmentOptions options;
    options.arm = armFromName(arm.toStdString()).value();
    return options;
}

} // namespace

class TestSim : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void registryKnowsTheTasks();
    void refusesUnknownNames();
    void resourcesAreFound();
    void sceneStartsAtRest_data() { addTaskRows(); }
    void sceneStartsAtRest();
    void kinematicsEqualReference();
    void kinematicsFollowTheScene_data();
    void kinematicsFollowTheScene();
    void inverseKinematicsFindsPoses_data() { kinematicsFollowTheScene_data(); }
    void inverseKinematicsFindsPoses();
    void sameSeedSameBits_data();
    void sameSeedSameBits();
    void restoredStateGoesOnTheSame_data() { addTaskRows(); }
    void restoredStateGoesOnTheSame();
    void limitsAreKept_data() { addTaskRows(); }
    void limitsAreKept();
    void refusesWhatIsNotFinite();
    void expertSucceeds_data() { addTaskRows(); }
    void expertSucceeds();
    void expertDependsOnTheStateAlone();
    void expertTakesOverFromAnywhere_data() { addTaskRows(); }
    void expertTakesOverFromAnywhere();
    void doingNothingFails_data() { addTaskRows(); }
    void doingNothingFails();
    void expertOfAnotherTaskFails();
    void successNeedsThreeSteps();
    void disturbanceHasItsDeviation();
    void rendersSomething_data() { addTaskRows(); }
    void rendersSomething();
    void labelsPointAtTheObjects_data();
    void labelsPointAtTheObjects();
    void pressAndPickLookTheSame();
    void randomizationIsSeparable();
    void refusesImageSizes();
    void camerasFollowTheSet();
    void realTimeIsKept();
    void generatorGivesTheSameForAnyThreads();
    void generatorCountsAndStops();
    void recordsDataset();
    void recordsLabelsInFullColour();
    void recordingStopsWhole();
    void recordingGoesOn();
    void recordingRefuses();
};

void TestSim::registryKnowsTheTasks()
{
    const std::vector<std::string> expected { "open_pot", "pour_block", "press_button", "pick_place" };
    QCOMPARE(taskNames(), expected);
    for (const std::string& name : expected) {
        const Task* task = findTask(name);
        QVERIFY(task != nullptr);
        const std::vector<std::string> sentences = task->instructions();
        QVERIFY(sentences.size() >= 3);
        QCOMPARE(std::set<std::string>(sentences.begin(), sentences.end()).size(), sentences.size());
        const int objects = static_cast<int>(task->objects().size());
        QVERIFY(task->target() >= 0 && task->target() < objects);
        QVERIFY(task->goal() >= -1 && task->goal() < objects);
    }
    QVERIFY(findTask("press_button")->scene() == findTask("pick_place")->scene());
    QVERIFY(mujocoVersion().size() >= 5);
}

void TestSim::refusesUnknownNames()
{
    const auto task = Environment::create("juggle");
    QVERIFY(!task);
    QCOMPARE(task.error().code, Errc::FieldInvalid);
    QVERIFY(task.error().message.find("press_button") != std::string::npos);
    const auto arm = armFromName("robot");
    QVERIFY(!arm);
    QCOMPARE(arm.error().code, Errc::FieldInvalid);
    QCOMPARE(armName(ArmKind::Piper), std::string_view("piper"));
    EnvironmentOptions options;
    options.randomization.light = std::nan("");
    QVERIFY(!Environment::create("open_pot", options));
    QVERIFY(!makeEnvironment("open_pot")->render("side", 64, 64));
}

void TestSim::resourcesAreFound()
{
    const auto found = resourcePath("scenes/common.xml");
    RW_VERIFY(found);
    const auto missing = resourcePath("scenes/none.xml");
    QVERIFY(!missing);
    QCOMPARE(missing.error().code, Errc::FileNotFound);
    QVERIFY(missing.error().message.find("share/rankwise") != std::string::npos);

    QTemporaryDir folder;
    const fs::path own = fs::path(folder.path().toStdString());
    fs::create_directories(own / "scenes");
    fs::copy_file(*found, own / "scenes" / "common.xml");
    qputenv("RANKWISE_RESOURCES", folder.path().toUtf8());
    const auto replaced = resourcePath("scenes/common.xml");
    qunsetenv("RANKWISE_RESOURCES");
    RW_VERIFY(replaced);
    QCOMPARE(*replaced, own / "scenes" / "common.xml");
}

void TestSim::sceneStartsAtRest()
{
    QFETCH(QString, task);
    QFETCH(QString, arm);
    const auto environment = makeEnvironment(task.toStdString(), armOptions(arm));
    const SceneDescription& scene = environment->description();
    QCOMPARE(scene.stateNames.size(), kActionSize);
    QCOMPARE(scene.stateNames.front(), std::string("joint_1.pos"));
    QCOMPARE(scene.stateNames.back(), std::string("gripper.pos"));
    QCOMPARE(scene.cameraNames, (std::vector<std::string> { "front", "wrist" }));
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        environment->reset(seed);
        QVERIFY(!environment->conditionHolds());
        QVERIFY(!environment->success());
        QCOMPARE(environment->stepCount(), 0);
        const StateVector start = environment->state();
        for (std::size_t j = 0; j < kJointCount; ++j) {
            QVERIFY(std::abs(static_cast<double>(start[j]) - scene.home[j]) <= 0.0801);
        }
        QVERIFY(start[6] >= 0.0F && start[6] <= 0.0701F);
        const SceneLabels before = environment->labels();
        const Action hold = holdAction(*environment);
        for (int i = 0; i < 5; ++i) {
            RW_VERIFY(environment->step(hold));
        }
        const SceneLabels after = environment->labels();
        QVERIFY(!environment->success());
        // Nothing stands inside something else, falls or is pushed away.
        for (std::size_t i = 0; i < before.objects.size(); ++i) {
            const double moved = norm(after.objects[i].position - before.objects[i].position);
            QVERIFY2(
                moved < 0.0025,
                qPrintable(QString("seed %1: %2 moved %3 m").arg(seed).arg(scene.objectNames[i].c_str()).arg(moved)));
        }
        const StateVector end = environment->state();
        for (std::size_t j = 0; j < kActionSize; ++j) {
            QVERIFY2(std::abs(end[j] - start[j]) < 0.002F, scene.stateNames[j].c_str());
        }
    }
}

void TestSim::kinematicsEqualReference()
{
    const char* named = std::getenv("RANKWISE_GOLDEN_DIR");
    const fs::path file = fs::path(named != nullptr ? named : RANKWISE_TEST_DATA "/golden") / "piper" / "fk.json";
    const auto json = readJsonFile(file);
    RW_VERIFY(json);
    const auto environment = makeEnvironment("press_button");
    const ArmKinematics kinematics(environment->model());
    const Pose tcpFromFlange { { 0, 0, -0.145 } };
    int placed = 0;
    int count = 0;
    for (const Json& entry : json->at("cases")) {
        JointAngles q = entry.at("q_rad").get<JointAngles>();
        const auto flange = entry.at("new_dh").back().get<std::array<double, 6>>();
        const double degree = std::numbers::pi / 180;
        const Mat3 rotation = fixedAxesRotation(flange[3] * degree, flange[4] * degree, flange[5] * degree);
        const Vec3 position = 0.001 * Vec3 { flange[0], flange[1], flange[2] };

        // The scene follows the published description, which differs from the DH table by up to 0.09 mm.
        const Pose tcp = kinematics.tcpPose(q);
        const double away = norm(tcp.position + tcp.rotation * tcpFromFlange.position - position);
        QVERIFY2(away < 1.2e-4, qPrintable(QString("case %1: %2 mm").arg(count).arg(1000 * away)));
        QVERIFY2(rotationAngle(tcp.rotation, rotation) < 2e-3, qPrintable(QString("case %1").arg(count)));
        if (environment->placeArm(q, 0.03)) {
            ++placed;
            QVERIFY(norm(environment->flangePose().position - position) < 1.2e-4);
            QVERIFY(norm(environment->gripperPose().position - tcp.position) < 1e-9);
        }
        ++count;
    }
    QVERIFY(count > 0);
    QVERIFY(placed > 0);
}

void TestSim::kinematicsFollowTheScene_data()
{
    QTest::addColumn<QString>("arm");
    QTest::newRow("piper") << "piper";
    QTest::newRow("generic") << "generic";
}

void TestSim::kinematicsFollowTheScene()
{
    QFETCH(QString, arm);
    const auto environment = makeEnvironment("open_pot", armOptions(arm));
    const ArmKinematics kinematics(environment->model());
    Random random(7);
    for (int i = 0; i < 50; ++i) {
        JointAngles q {};
        for (std::size_t j = 0; j < 6; ++j) {
            q[j] = random.uniform(kinematics.limits()[j][0], kinematics.limits()[j][1]);
        }
        RW_VERIFY(environment->placeArm(q, 0.02));
        const Pose tcp = kinematics.tcpPose(q);
        QVERIFY(norm(tcp.position - environment->gripperPose().position) < 1e-12);
        QVERIFY(rotationAngle(tcp.rotation, environment->gripperPose().rotation) < 1e-7);
        const auto columns = kinematics.jacobian(q);
        for (std::size_t j = 0; j < 6; ++j) {
            JointAngles moved = q;
            moved[j] += 1e-6;
            const Vec3 slope = 1e6 * (kinematics.tcpPose(moved).position - tcp.position);
            QVERIFY(norm(slope - Vec3 { columns[j][0], columns[j][1], columns[j][2] }) < 1e-5);
        }
    }
}

void TestSim::inverseKinematicsFindsPoses()
{
    QFETCH(QString, arm);
    const auto environment = makeEnvironment("open_pot", armOptions(arm));
    const ArmKinematics kinematics(environment->model());
    Random random(11);
    for (int i = 0; i < 100; ++i) {
        JointAngles q = environment->description().home;
        JointAngles seed = q;
        for (std::size_t j = 0; j < 6; ++j) {
            q[j] += random.uniform(-0.35, 0.35);
            q[j] = std::clamp(q[j], kinematics.limits()[j][0], kinematics.limits()[j][1]);
        }
        const auto solution = kinematics.solve(kinematics.tcpPose(q), seed);
        QVERIFY(solution.positionError < 1e-4);
        QVERIFY(solution.rotationError < 1e-3);
        for (std::size_t j = 0; j < 6; ++j) {
            QVERIFY(solution.q[j] >= kinematics.limits()[j][0] && solution.q[j] <= kinematics.limits()[j][1]);
        }
    }
}

void TestSim::sameSeedSameBits_data()
{
    QTest::addColumn<QString>("task");
    for (const std::string& task : taskNames()) {
        QTest::newRow(task.c_str()) << QString::fromStdString(task);
    }
}

void TestSim::sameSeedSameBits()
{
    QFETCH(QString, task);
    const std::string name = task.toStdString();
    const std::uint64_t here = episodeHash(name, 5, 48);
    QCOMPARE(episodeHash(name, 5, 48), here);
    QVERIFY(episodeHash(name, 6, 48) != here);

    QProcess other;
    QProcessEnvironment environment = QProcessEnvironment::systemEnvironment();
    environment.insert(kHashVariable, task);
    other.setProcessEnvironment(environment);
    other.start(QCoreApplication::applicationFilePath(), {});
    QVERIFY(other.waitForFinished(60'000));
    QCOMPARE(other.exitCode(), 0);
    QCOMPARE(other.readAllStandardOutput().trimmed(), QByteArray::number(static_cast<qulonglong>(here)));
}

void TestSim::restoredStateGoesOnTheSame()
{
    QFETCH(QString, task);
    QFETCH(QString, arm);
    const auto first = makeEnvironment(task.toStdString(), armOptions(arm));
    const auto second = makeEnvironment(task.toStdString(), armOptions(arm));
    Expert expert(*first);
    first->reset(21);
    for (int i = 0; i < 9; ++i) {
        RW_VERIFY(first->step(expert.act(*first)));
    }
    const EpisodeState saved = first->save();
    RW_VERIFY(second->restore(saved));
    QCOMPARE(second->seed(), first->seed());
    QCOMPARE(second->stepCount(), first->stepCount());
    QCOMPARE(second->instruction(), first->instruction());
    QCOMPARE(second->jointTorques(), first->jointTorques());
    const auto before = first->render("wrist", 32, 32);
    RW_VERIFY(before);
    const auto same = second->render("wrist", 32, 32);
    RW_VERIFY(same);
    QVERIFY(*before == *same);
    for (int i = 0; i < 12; ++i) {
        const Action action = expert.act(*first);
        QCOMPARE(Expert(*second).act(*second), action);
        RW_VERIFY(first->step(action));
        RW_VERIFY(second->step(action));
        QCOMPARE(second->save().physics, first->save().physics);
        QCOMPARE(second->success(), first->success());
    }
    EpisodeState broken = saved;
    broken.physics.pop_back();
    QVERIFY(!second->restore(broken));
    broken = saved;
    broken.physics[3] = std::nan("");
    QVERIFY(!second->restore(broken));
}

void TestSim::limitsAreKept()
{
    QFETCH(QString, task);
    QFETCH(QString, arm);
    const auto environment = makeEnvironment(task.toStdString(), armOptions(arm));
    Random random(3);
    for (const double extreme : { -100.0, 100.0 }) {
        environment->reset(1);
        for (int i = 0; i < 15; ++i) {
            Action action {};
            action.fill(extreme);
            RW_VERIFY(environment->step(action));
            const StateVector state = environment->state();
            for (std::size_t j = 0; j < kJointCount; ++j) {
                const auto [low, high] = environment->description().jointLimits[j];
                const double q = static_cast<double>(state[j]);
                QVERIFY2(q > low - 0.05 && q < high + 0.05, environment->description().stateNames[j].c_str());
            }
            // A blow against the table gives the stops a little.
            QVERIFY(state[6] > -0.006F && state[6] < 0.076F);
        }
    }
    environment->reset(2);
    for (int i = 0; i < 20; ++i) {
        Action action {};
        for (double& a : action) {
            a = random.uniform(-3, 3);
        }
        RW_VERIFY(environment->step(action));
        for (const double torque : environment->jointTorques()) {
            QVERIFY(std::isfinite(torque));
        }
    }
    const std::array<double, kJointCount> outside { 3.0, 3.5, 3.0, 3.0, 3.0, 3.0 };
    const auto refused = environment->placeArm(outside, 0.01);
    QVERIFY(!refused);
    QCOMPARE(refused.error().code, Errc::FieldInvalid);
}

void TestSim::refusesWhatIsNotFinite()
{
    const auto environment = makeEnvironment("press_button");
    const StateVector before = environment->state();
    for (const double bad : { std::nan(""), HUGE_VAL }) {
        Action action = holdAction(*environment);
        action[2] = bad;
        const auto result = environment->step(action);
        QVERIFY(!result);
        QCOMPARE(result.error().code, Errc::NotFinite);
    }
    QCOMPARE(environment->state(), before);
    QCOMPARE(environment->stepCount(), 0);
}

void TestSim::expertSucceeds()
{
    QFETCH(QString, task);
    QFETCH(QString, arm);
    const auto environment = makeEnvironment(task.toStdString(), armOptions(arm));
    Expert expert(*environment);
    GeneratorOptions options;
    options.width = 0;
    options.environment = environment->options();
    const int seeds = arm == "piper" ? kDisturbedSeeds : 8;
    int succeeded = 0;
    int disturbed = 0;
    QStringList failures;
    for (int i = 0; i < seeds; ++i) {
        const auto episode = rollExpert(*environment, expert, attemptSeed(1, task.toStdString(), i), options);
        RW_VERIFY(episode);
        disturbed += episode->disturbed ? 1 : 0;
        if (episode->frames.back().success) {
            ++succeeded;
        } else {
            failures << QString("%1 (%2)").arg(i).arg(
                QString::fromUtf8(expert.phase().data(), static_cast<qsizetype>(expert.phase().size())));
        }
    }
    QVERIFY(disturbed > 0 && (arm == "generic" || disturbed < seeds));
    QVERIFY2(failures.isEmpty(),
             qPrintable(QString("%1 of %2; failed: %3").arg(succeeded).arg(seeds).arg(failures.join(", "))));
}

void TestSim::expertDependsOnTheStateAlone()
{
    const auto environment = makeEnvironment("pick_place");
    Expert travelled(*environment);
    environment->reset(4);
    for (int i = 0; i < 25 && !environment->success(); ++i) {
        const Action action = travelled.act(*environment);
        QCOMPARE(travelled.act(*environment), action);
        QCOMPARE(Expert(*environment).act(*environment), action);
        RW_VERIFY(environment->step(action));
    }
}

void TestSim::expertTakesOverFromAnywhere()
{
    QFETCH(QString, task);
    QFETCH(QString, arm);
    const auto environment = makeEnvironment(task.toStdString(), armOptions(arm));
    Expert expert(*environment);
    int succeeded = 0;
    const int seeds = 4;
    for (int i = 0; i < seeds; ++i) {
        const std::uint64_t seed = 900 + static_cast<std::uint64_t>(i);
        environment->reset(seed);
        Random random(seed);
        // Somebody else's hand for the first steps: joints wander about home, the fingers open and close.
        Action wander {};
        std::copy_n(environment->description().home.begin(), kJointCount, wander.begin());
        for (int k = 0; k < 8; ++k) {
            for (std::size_t j = 0; j < kJointCount; ++j) {
                wander[j] += random.uniform(-0.08, 0.08);
            }
            wander[1] = std::min(wander[1], environment->description().home[1] + 0.05);
            wander[6] = random.unit() < 0.5 ? 0.0 : kOpeningMax;
            RW_VERIFY(environment->step(wander));
        }
        while (!environment->success() && environment->stepCount() < environment->description().expertTimeLimit) {
            RW_VERIFY(environment->step(expert.act(*environment)));
        }
        succeeded += environment->success() ? 1 : 0;
    }
    QCOMPARE(succeeded, seeds);
}

void TestSim::doingNothingFails()
{
    QFETCH(QString, task);
    QFETCH(QString, arm);
    const auto environment = makeEnvironment(task.toStdString(), armOptions(arm));
    environment->reset(3);
    const Action hold = holdAction(*environment);
    for (int i = 0; i < environment->description().timeLimit; ++i) {
        RW_VERIFY(environment->step(hold));
    }
    QVERIFY(!environment->success());
}

void TestSim::expertOfAnotherTaskFails()
{
    // The scene of press and pick is one; doing the one must not count as the other.
    const auto pressing = makeEnvironment("press_button");
    const auto picking = makeEnvironment("pick_place");
    Expert press(*pressing);
    for (std::uint64_t seed = 50; seed < 54; ++seed) {
        pressing->reset(seed);
        picking->reset(seed);
        for (int i = 0; i < 60 && !pressing->success(); ++i) {
            const Action action = press.act(*pressing);
            RW_VERIFY(pressing->step(action));
            RW_VERIFY(picking->step(action));
            QCOMPARE(picking->state(), pressing->state());
        }
        QVERIFY(pressing->success());
        QVERIFY(!picking->success());
    }
}

void TestSim::successNeedsThreeSteps()
{
    const auto environment = makeEnvironment("open_pot");
    Expert expert(*environment);
    environment->reset(8);
    int streak = 0;
    for (int i = 0; i < 100 && !environment->success(); ++i) {
        RW_VERIFY(environment->step(expert.act(*environment)));
        streak = environment->conditionHolds() ? streak + 1 : 0;
        QCOMPARE(environment->success(), streak >= 3);
    }
    QCOMPARE(streak, 3);
}

void TestSim::disturbanceHasItsDeviation()
{
    const Disturbance settings;
    int active = 0;
    double squares = 0;
    double wristSquares = 0;
    double products = 0;
    int samples = 0;
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
        DisturbanceProcess process(settings, seed);
        Action zero {};
        if (!process.active()) {
            QCOMPARE(process.disturbed(zero, 1.0), zero);
            continue;
        }
        ++active;
        double previous = 0;
        for (int i = 0; i < 60; ++i) {
            const Action noisy = process.disturbed(zero, 1.0);
            QCOMPARE(noisy[6], 0.0);
            if (i >= 20) {
                squares += noisy[0] * noisy[0];
                wristSquares += noisy[5] * noisy[5];
                products += noisy[0] * previous;
                ++samples;
            }
            previous = noisy[0];
        }
    }
    QVERIFY(active > 240 && active < 320);
    QVERIFY(std::abs(std::sqrt(squares / samples) - 0.02) < 0.001);
    QVERIFY(std::abs(std::sqrt(wristSquares / samples) - 0.03) < 0.0015);
    QVERIFY(std::abs(products / squares - 0.7) < 0.03);
    // At the waypoint 15 % of it is left.
    DisturbanceProcess far(settings, 12);
    DisturbanceProcess near(settings, 12);
    const double full = far.disturbed(Action {}, 1.0)[0];
    QVERIFY(std::abs(near.disturbed(Action {}, 0.0)[0] - 0.15 * full) < 1e-12);
}

void TestSim::rendersSomething()
{
    QFETCH(QString, task);
    QFETCH(QString, arm);
    const auto environment = makeEnvironment(task.toStdString(), armOptions(arm));
    for (const std::uint64_t seed : { 0u, 1u, 2u }) {
        environment->reset(seed);
        const auto observation = environment->observation(96, 64);
        RW_VERIFY(observation);
        QCOMPARE(observation->images.size(), std::size_t { 2 });
        QCOMPARE(observation->state, environment->state());
        for (const Image& image : observation->images) {
            QCOMPARE(image.width, 96);
            QCOMPARE(image.height, 64);
            QCOMPARE(image.rgb.size(), std::size_t { 96 * 64 * 3 });
            QVERIFY(deviation(image) > 10);
        }
        QVERIFY(observation->images[0] != observation->images[1]);
        const auto again = environment->observation(96, 64);
        RW_VERIFY(again);
        QVERIFY(again->images == observation->images);
        // Drawing at another size in between leaves no trace.
        RW_VERIFY(environment->render("overview", 320, 200));
        const auto third = environment->observation(96, 64);
        RW_VERIFY(third);
        QVERIFY(third->images == observation->images);
    }
}

void TestSim::labelsPointAtTheObjects_data()
{
    QTest::addColumn<QString>("task");
    QTest::addColumn<int>("object");
    QTest::addColumn<int>("channel"); // the strongest of red, green, blue
    QTest::newRow("button is red") << "press_button" << 0 << 0;
    QTest::newRow("cube is green") << "press_button" << 1 << 1;
    QTest::newRow("plate is blue inside") << "press_button" << 2 << 2;
    QTest::newRow("knob is red") << "open_pot" << 0 << 0;
    QTest::newRow("cup is blue") << "pour_block" << 0 << 2;
    QTest::newRow("bowl is yellow") << "pour_block" << 1 << 0;
}

void TestSim::labelsPointAtTheObjects()
{
    QFETCH(QString, task);
    QFETCH(int, object);
    QFETCH(int, channel);
    EnvironmentOptions options;
    options.randomization = { 1.0, 0.0, 0.0, 1.0 };
    const auto environment = makeEnvironment(task.toStdString(), options);
    int checked = 0;
    for (std::uint64_t seed = 0; seed < 12; ++seed) {
        environment->reset(seed);
        const SceneLabels labels = environment->labels();
        QCOMPARE(labels.objects.size(), environment->description().objectNames.size());
        QCOMPARE(labels.gripper.position, environment->gripperPose().position);
        const auto observation = environment->observation(128, 128);
        RW_VERIFY(observation);
        for (std::size_t camera = 0; camera < 2; ++camera) {
            const ImagePoint& point = labels.objects[static_cast<std::size_t>(object)].images[camera];
            if (!point.inside) {
                QVERIFY(camera == 1); // The front camera sees everything.
                continue;
            }
            QVERIFY(point.depth > 0.05 && point.depth < 1.5);
            if (camera == 1) {
                continue; // Fingers may stand before it.
            }
            const auto color = pixelAt(observation->images[camera], point);
            for (std::size_t c = 0; c < 3; ++c) {
                QVERIFY2(
                    color[static_cast<std::size_t>(channel)] >= color[c],
                    qPrintable(QString("seed %1 color %2 %3 %4").arg(seed).arg(color[0]).arg(color[1]).arg(color[2])));
            }
            QVERIFY(color[static_cast<std::size_t>(channel)] > std::min({ color[0], color[1], color[2] }) + 15);
            ++checked;
        }
    }
    QCOMPARE(checked, 12);
}

void TestSim::pressAndPickLookTheSame()
{
    const auto pressing = makeEnvironment("press_button");
    const auto picking = makeEnvironment("pick_place");
    for (const std::uint64_t seed : { 3u, 4u }) {
        pressing->reset(seed);
        picking->reset(seed);
        const auto a = pressing->observation(64, 64);
        RW_VERIFY(a);
        const auto b = picking->observation(64, 64);
        RW_VERIFY(b);
        QVERIFY(a->images == b->images);
        QCOMPARE(a->state, b->state);
        QVERIFY(pressing->instruction() != picking->instruction());
    }
}

void TestSim::randomizationIsSeparable()
{
    EnvironmentOptions still;
    still.randomization = { 0, 0, 0, 0 };
    const auto plain = makeEnvironment("press_button", still);
    plain->reset(1);
    const auto first = plain->observation(64, 64);
    RW_VERIFY(first);
    plain->reset(2);
    const auto second = plain->observation(64, 64);
    RW_VERIFY(second);
    QVERIFY(first->images == second->images);
    QCOMPARE(first->state, second->state);

    const auto changed = [&](const Randomization& random) {
        EnvironmentOptions options;
        options.randomization = random;
        const auto environment = makeEnvironment("press_button", options);
        environment->reset(1);
        return std::pair { environment->render("front", 64, 64).value(), environment->labels().objects[0].position };
    };
    const Vec3 center = plain->labels().objects[0].position;
    for (const Randomization& looks :
         { Randomization { 0, 1, 0, 0 }, Randomization { 0, 0, 1, 0 }, Randomization { 0, 0, 0, 1 } }) {
        const auto [image, position] = changed(looks);
        QVERIFY(image != first->images[0]);
        QCOMPARE(position, center);
    }
    const auto [moved, position] = changed({ 1, 0, 0, 0 });
    QVERIFY(moved != first->images[0]);
    QVERIFY(position != center);
    QCOMPARE(changed({ 1, 1, 1, 1 }).second, position);
}

void TestSim::refusesImageSizes()
{
    const auto environment = makeEnvironment("open_pot");
    for (const auto& [width, height] : { std::pair { 0, 64 }, { 64, -1 }, { 4, 4 }, { 4096, 64 } }) {
        const auto result = environment->render("front", width, height);
        QVERIFY(!result);
        QCOMPARE(result.error().code, Errc::FieldInvalid);
    }
    const auto large = environment->render("front", 640, 480);
    RW_VERIFY(large);
    QCOMPARE(large->rgb.size(), std::size_t { 640 * 480 * 3 });
    const auto name = checkRendering();
    RW_VERIFY(name);
    QVERIFY(!name->empty());
}

void TestSim::camerasFollowTheSet()
{
    const auto front = [](CameraSet set, std::uint64_t seed) {
        EnvironmentOptions options;
        options.arm = ArmKind::Generic;
        options.frontCamera = set;
        const auto environment = makeEnvironment("open_pot", options);
        environment->reset(seed);
        return environment->render("front", 48, 48).value();
    };
    QVERIFY(front(CameraSet::SeedParity, 6) == front(CameraSet::A, 6));
    QVERIFY(front(CameraSet::SeedParity, 7) == front(CameraSet::B, 7));
    QVERIFY(front(CameraSet::A, 6) != front(CameraSet::B, 6));
}

void TestSim::realTimeIsKept()
{
    EnvironmentOptions options;
    options.realTime = true;
    const auto environment = makeEnvironment("press_button", options);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 5; ++i) {
        RW_VERIFY(environment->step(holdAction(*environment)));
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    QVERIFY2(seconds > 0.45 && seconds < 1.5, qPrintable(QString::number(seconds)));
}

void TestSim::generatorGivesTheSameForAnyThreads()
{
    GeneratorOptions options;
    options.tasks = { "press_button", "open_pot" };
    options.episodes = 3;
    options.seed = 77;
    options.width = 32;
    options.height = 32;
    options.labels = true;
    std::vector<std::vector<Episode>> runs;
    for (const int threads : { 1, 3 }) {
        options.threads = threads;
        std::vector<Episode> episodes;
        const auto summary = generateEpisodes(options, {}, [&](Episode&& episode) -> Result<void> {
            episodes.push_back(std::move(episode));
            return {};
        });
        RW_VERIFY(summary);
        QCOMPARE(summary->episodes, std::int64_t { 6 });
        QCOMPARE(summary->tasks.size(), std::size_t { 2 });
        QCOMPARE(summary->tasks[0].kept, std::int64_t { 3 });
        runs.push_back(std::move(episodes));
    }
    QCOMPARE(runs[0].size(), std::size_t { 6 });
    for (std::size_t i = 0; i < runs[0].size(); ++i) {
        const Episode& a = runs[0][i];
        const Episode& b = runs[1][i];
        QCOMPARE(a.task, options.tasks[i % 2]);
        QCOMPARE(a.index, static_cast<std::int64_t>(i));
        QCOMPARE(a.task, b.task);
        QCOMPARE(a.seed, b.seed);
        QCOMPARE(a.instruction, b.instruction);
        QCOMPARE(a.frames.size(), b.frames.size());
        for (std::size_t k = 0; k < a.frames.size(); ++k) {
            QCOMPARE(a.frames[k].state, b.frames[k].state);
            QCOMPARE(a.frames[k].action, b.frames[k].action);
            QVERIFY(a.frames[k].images == b.frames[k].images);
            QCOMPARE(a.frames[k].images.size(), std::size_t { 2 });
            QCOMPARE(a.frames[k].success, k + 1 == a.frames.size());
            QVERIFY(a.frames[k].labels.objects.size() >= 2);
            QCOMPARE(a.frames[k].labels.objects[0].position, b.frames[k].labels.objects[0].position);
        }
    }
}

void TestSim::generatorCountsAndStops()
{
    GeneratorOptions options;
    options.tasks = { "press_button" };
    options.episodes = 50;
    options.width = 0;
    std::stop_source stop;
    JobContext job;
    job.stop = stop.get_token();
    int seen = 0;
    const auto stopped = generateEpisodes(options, job, [&](Episode&& episode) -> Result<void> {
        QTest::qVerify(episode.frames.front().images.empty(), "no images", "", __FILE__, __LINE__);
        if (++seen == 2) {
            stop.request_stop();
        }
        return {};
    });
    QVERIFY(!stopped);
    QCOMPARE(stopped.error().code, Errc::Cancelled);
    QCOMPARE(seen, 2);

    const auto refused =
        generateEpisodes(options, {}, [](Episode&&) -> Result<void> { return fail(Errc::DiskFull, "full"); });
    QVERIFY(!refused);
    QCOMPARE(refused.error().code, Errc::DiskFull);

    // An expert that cannot succeed is reported instead of being asked for ever.
    options.disturbance = { 1.0, 3.0, 3.0, 0.7, 1.0, 0.06 };
    const auto hopeless = generateEpisodes(options, {}, [](Episode&&) -> Result<void> { return {}; });
    QVERIFY(!hopeless);
    QCOMPARE(hopeless.error().code, Errc::DataInvalid);

    options.tasks = { "press_button", "press_button" };
    QVERIFY(!generateEpisodes(options, {}, [](Episode&&) -> Result<void> { return {}; }));
    options.tasks = { "juggle" };
    QVERIFY(!generateEpisodes(options, {}, [](Episode&&) -> Result<void> { return {}; }));
}

void TestSim::recordsDataset()
{
    QTemporaryDir folder;
    RecordOptions options;
    options.generator.tasks = { "press_button", "pick_place" };
    options.generator.episodes = 2;
    options.generator.seed = 7;
    options.generator.width = 64;
    options.generator.height = 48;
    options.out = fs::path(folder.path().toStdString()) / "demos";
    const auto summary = recordEpisodes(options, {});
    RW_VERIFY(summary);
    QCOMPARE(summary->generated.episodes, std::int64_t { 4 });

    std::vector<Episode> expected;
    RW_VERIFY(generateEpisodes(options.generator, {}, [&](Episode&& episode) -> Result<void> {
        expected.push_back(std::move(episode));
        return {};
    }));

    std::vector<Warning> warnings;
    const auto opened = data::DatasetReader::open(options.out, { data::Verify::Frames }, warnings);
    RW_VERIFY(opened);
    const data::DatasetReader& reader = **opened;
    QCOMPARE(reader.info().fps, std::int64_t { kControlHz });
    QCOMPARE(reader.info().robotType, std::string("piper_sim"));
    QCOMPARE(reader.frameCount(), summary->generated.frames);
    QCOMPARE(reader.episodes().size(), std::size_t { 4 });
    QCOMPARE(reader.info().find("observation.state")->names, makeEnvironment("open_pot")->description().stateNames);
    QCOMPARE(reader.info().cameraKeys(),
             (std::vector<std::string> { "observation.images.front", "observation.images.wrist" }));

    const auto request = data::SampleRequest::forPolicy(reader.info().cameraKeys(), "observation.state", "action", 1);
    for (std::size_t e = 0; e < expected.size(); ++e) {
        const data::EpisodeInfo& row = reader.episodes()[e];
        QCOMPARE(row.length, static_cast<std::int64_t>(expected[e].frames.size()));
        QCOMPARE(row.tasks, std::vector<std::string> { expected[e].instruction });
        for (const std::int64_t k : { std::int64_t { 0 }, row.length / 2, row.length - 1 }) {
            const EpisodeFrame& frame = expected[e].frames[static_cast<std::size_t>(k)];
            const auto sample = reader.sample(row.fromIndex + k, request);
            RW_VERIFY(sample);
            QCOMPARE(sample->task, expected[e].instruction);
            const std::vector<float> state = sample->columns.find("observation.state")->second.floats();
            const std::vector<float> action = sample->columns.find("action")->second.floats();
            for (std::size_t j = 0; j < kActionSize; ++j) {
                QCOMPARE(state[j], frame.state[j]);
                QCOMPARE(action[j], static_cast<float>(frame.action[j]));
            }
            for (std::size_t c = 0; c < 2; ++c) {
                const auto& stored = *sample->cameras.find(reader.info().cameraKeys()[c])->second.frames.front();
                QCOMPARE(stored.pixels.size(), frame.images[c].rgb.size());
                double difference = 0;
                for (std::size_t i = 0; i < stored.pixels.size(); ++i) {
                    difference += std::abs(static_cast<double>(stored.pixels[i]) - frame.images[c].rgb[i]);
                }
                difference /= static_cast<double>(stored.pixels.size());
                QVERIFY2(difference < 6, qPrintable(QString("mean difference %1").arg(difference)));
            }
            const auto success = reader.column("next.success");
            QVERIFY(success != nullptr);
            QCOMPARE(static_cast<int>(success->bytes[static_cast<std::size_t>(row.fromIndex + k)]),
                     k + 1 == row.length ? 1 : 0);
        }
    }

    const auto again = recordEpisodes(options, {});
    QVERIFY(!again);
    QCOMPARE(again.error().code, Errc::AlreadyExists);
}

/// Labels are where environment.labels() has them, by name; full chroma comes closer to what was rendered.
void TestSim::recordsLabelsInFullColour()
{
    QTemporaryDir folder;
    RecordOptions options;
    options.generator.tasks = { "press_button", "open_pot" };
    options.generator.episodes = 1;
    options.generator.seed = 3;
    options.generator.width = 64;
    options.generator.height = 64;
    options.generator.labels = true;
    std::vector<Episode> expected;
    RW_VERIFY(generateEpisodes(options.generator, {}, [&](Episode&& episode) -> Result<void> {
        expected.push_back(std::move(episode));
        return {};
    }));
    std::array<double, 2> error {};
    for (const bool full : { false, true }) {
        options.video.fullChroma = full;
        options.out = fs::path(folder.path().toStdString()) / (full ? "full" : "half");
        RW_VERIFY(recordEpisodes(options, {}));
        std::vector<Warning> warnings;
        const auto opened = data::DatasetReader::open(options.out, { data::Verify::Frames }, warnings);
        RW_VERIFY(opened);
        const data::DatasetReader& reader = **opened;
        QVERIFY(reader.info().find("observation.images.front")->infoJson.find(full ? "yuv444p" : "yuv420p")
                != std::string::npos);
        QCOMPARE(reader.info().find(kLabelsKey)->names, labelNames({ "front", "wrist" }));
        const std::vector<std::string>& names = reader.info().find(kLabelsKey)->names;
        data::SampleRequest request;
        request.columns.push_back({ .key = kLabelsKey });
        for (std::size_t e = 0; e < expected.size(); ++e) {
            const auto objects = makeEnvironment(expected[e].task)->description().objectNames;
            for (std::size_t k = 0; k < expected[e].frames.size(); ++k) {
                const EpisodeFrame& frame = expected[e].frames[k];
                const auto index = reader.episodes()[e].fromIndex + static_cast<std::int64_t>(k);
                const auto sample = reader.sample(index, request);
                RW_VERIFY(sample);
                const std::vector<float> values = sample->columns.find(kLabelsKey)->second.floats();
                QCOMPARE(values.size(), names.size());
                for (std::size_t i = 0; i < values.size(); i += 4) {
                    const std::string camera = names[i].substr(0, names[i].find('.'));
                    const std::string point =
                        names[i].substr(camera.size() + 1, names[i].rfind('.') - camera.size() - 1);
                    const std::size_t c = camera == "front" ? 0 : 1;
                    const auto object = std::find(objects.begin(), objects.end(), point);
                    ImagePoint wanted;
                    if (point == "gripper") {
                        wanted = frame.labels.gripper.images[c];
                    } else if (object != objects.end()) {
                        wanted = frame.labels.objects[static_cast<std::size_t>(object - objects.begin())].images[c];
                    }
                    if (!wanted.inside) {
                        wanted = {};
                    }
                    QCOMPARE(values[i], static_cast<float>(wanted.u));
                    QCOMPARE(values[i + 1], static_cast<float>(wanted.v));
                    QCOMPARE(values[i + 2], static_cast<float>(wanted.depth));
                    QCOMPARE(values[i + 3], wanted.inside ? 1.0F : 0.0F);
                }
                const auto image = reader.image("observation.images.front", index);
                RW_VERIFY(image);
                for (std::size_t i = 0; i < frame.images[0].rgb.size(); ++i) {
                    error[full ? 1 : 0] += std::abs(static_cast<double>((*image)->pixels[i]) - frame.images[0].rgb[i]);
                }
            }
        }
    }
    QVERIFY2(error[1] < error[0], qPrintable(QString("full %1, half %2").arg(error[1]).arg(error[0])));
}

void TestSim::recordingStopsWhole()
{
    QTemporaryDir folder;
    RecordOptions options;
    options.generator.tasks = { "press_button" };
    options.generator.episodes = 50;
    options.generator.width = 32;
    options.generator.height = 32;
    options.out = fs::path(folder.path().toStdString()) / "demos";
    std::stop_source stop;
    JobContext job;
    job.stop = stop.get_token();
    job.progress = [&](double fraction, std::string_view) {
        if (fraction > 0.05) {
            stop.request_stop();
        }
    };
    const auto stopped = recordEpisodes(options, job);
    QVERIFY(!stopped);
    QCOMPARE(stopped.error().code, Errc::Cancelled);
    std::vector<Warning> warnings;
    const auto opened = data::DatasetReader::open(options.out, { data::Verify::Frames }, warnings);
    RW_VERIFY(opened);
    QCOMPARE((*opened)->episodes().size(), std::size_t { 3 });
}

/// Stopped at some episode, torn by a dead recorder, and gone on: the dataset of one call.
void TestSim::recordingGoesOn()
{
    QTemporaryDir folder;
    RecordOptions options;
    options.generator.tasks = { "press_button", "open_pot" };
    options.generator.episodes = 3;
    options.generator.seed = 4;
    options.generator.width = 32;
    options.generator.height = 32;
    options.out = fs::path(folder.path().toStdString()) / "whole";
    const auto whole = recordEpisodes(options, {});
    RW_VERIFY(whole);

    options.out = fs::path(folder.path().toStdString()) / "parts";
    options.resume = true; // of nothing: begins
    for (const double until : { 0.4, 0.7 }) {
        std::stop_source stop;
        JobContext job;
        job.stop = stop.get_token();
        job.progress = [&](double fraction, std::string_view) {
            if (fraction > until) {
                stop.request_stop();
            }
        };
        QCOMPARE(recordEpisodes(options, job).error().code, Errc::Cancelled);
        std::ofstream(options.out / "data" / "torn.parquet.tmp-1-1") << "torn";
    }
    const auto parts = recordEpisodes(options, {});
    RW_VERIFY(parts);
    QCOMPARE(parts->generated.episodes, whole->generated.episodes);
    QCOMPARE(parts->generated.frames, whole->generated.frames);

    std::vector<Warning> warnings;
    const auto a = data::DatasetReader::open(whole->dataset, { data::Verify::Frames }, warnings);
    const auto b = data::DatasetReader::open(parts->dataset, { data::Verify::Frames }, warnings);
    RW_VERIFY(a);
    RW_VERIFY(b);
    QCOMPARE((*b)->frameCount(), (*a)->frameCount());
    QCOMPARE((*b)->tasks(), (*a)->tasks());
    for (const char* key : { "observation.state", "action", "next.success", "task_index", "episode_index" }) {
        QVERIFY2((*a)->column(key)->bytes == (*b)->column(key)->bytes, key);
    }
    for (std::int64_t i = 0; i < (*a)->frameCount(); i += 7) {
        for (const char* camera : { "observation.images.front", "observation.images.wrist" }) {
            const auto one = (*a)->image(camera, i);
            const auto two = (*b)->image(camera, i);
            RW_VERIFY(one);
            RW_VERIFY(two);
            QVERIFY2((*one)->pixels == (*two)->pixels, camera);
        }
    }
    // A whole one stays as it is; one of other options is not touched.
    RW_VERIFY(recordEpisodes(options, {}));
    options.generator.width = options.generator.height = 48;
    QCOMPARE(recordEpisodes(options, {}).error().code, Errc::FieldInvalid);
    options.generator.width = options.generator.height = 32;
    options.generator.episodes = 2;
    QCOMPARE(recordEpisodes(options, {}).error().code, Errc::FieldInvalid);
}

void TestSim::recordingRefuses()
{
    QTemporaryDir folder;
    RecordOptions options;
    options.out = fs::path(folder.path().toStdString()) / "demos";
    options.generator.cameras = { "side" };
    QVERIFY(!recordEpisodes(options, {}));
    options.generator.cameras.clear();
    options.generator.width = 63;
    QVERIFY(!recordEpisodes(options, {}));
    options.generator.width = 0;
    QVERIFY(!recordEpisodes(options, {}));
    options.generator.width = 64;
    options.generator.tasks = { "juggle" };
    QVERIFY(!recordEpisodes(options, {}));
    options.generator.tasks = { "press_button" };
    options.generator.episodes = 0;
    QVERIFY(!recordEpisodes(options, {}));
    QVERIFY(!fs::exists(options.out));
}

int main(int argc, char** argv)
{
    if (const char* task = std::getenv(kHashVariable); task != nullptr) {
        std::printf("%llu\n", static_cast<unsigned long long>(episodeHash(task, 5, 48)));
        return 0;
    }
    QCoreApplication application(argc, argv);
    TestSim test;
    return QTest::qExec(&test, argc, argv);
}

#include "tst_sim.moc"

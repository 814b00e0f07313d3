// What the programs that test the bridge, the charts and the window share: patience, settings of their own, a finished
// run, the look at a picture, the watchdog's closing test and main().
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/gui/options.h"
#include "tests/widgets/run_fixture.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/imgui_view.h"
#include "widgets/common/watched_application.h"

#include <QImage>
#include <QTemporaryDir>
#include <QTest>

#include <cstddef>

namespace rankwise::tests {

/// Milliseconds after which something that must come is held to be missing.
inline constexpr int kPatience = 30'000;

/// A window that keeps its settings and sessions in `folder`.
[[nodiscard]] gui::Options optionsIn(const QTemporaryDir& folder);

/// A finished run in a folder of its own.
struct FinishedRun {
    explicit FinishedRun(RunShape shape = {});
    [[nodiscard]] bridge::WorkspaceItem item() const { return { bridge::ItemKind::Run, path, {} }; }

    RunShape shape;
    QTemporaryDir folder;
    QString path;
};

/// Distinct colors of a picture, at most `enough`.
[[nodiscard]] std::size_t colors(const QImage& image, std::size_t enough = 50);

/// For programs that drive the real ones: the window finds `program` (RANKWISE_PROGRAM), `nano` becomes the folder of
/// the shipped policy, and `demos` that of so many recorded demonstrations of press_button. A QVERIFY tells what is
/// missing.
void prepareEngine(const QString& program, const QString& demos, int episodes, QString& nano);

/// Kills the workers of every run in `runs`, by the ids in their status files.
void killWorkers(const QString& runs);

/// First test of a program that opens windows: OpenGL is there, or is missing because the run asked for that.
void openGlIsAsExpected();

/// Last test of every program: no event took the GUI thread longer than RANKWISE_GUI_LIMIT_MS, 100 without it.
void guiThreadStaysResponsive();

/// Log levels from RANKWISE_LOG, as the workbench reads them: "gui=debug" shows every event that took above 16 ms.
void configureLog();

/// main() of a program that runs `Test` under the watchdog.
template <class Test> int runTest(int argc, char** argv)
{
    configureLog();
    common::setDefaultGlFormat();
    const common::WatchedApplication app(argc, argv);
    QCoreApplication::setApplicationName(QStringLiteral("rankwise-workbench"));
    Test test;
    return QTest::qExec(&test, argc, argv);
}

} // namespace rankwise::tests

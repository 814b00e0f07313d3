// What the real window keeps and finds: sessions, recovery after a crash, undo, commands and their palette, dropped and
// missing paths. Needs a display: ctest under xvfb-run where there is none.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"
#include "tests/widgets/window_fixture.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"
#include "widgets/common/palette.h"
#include "widgets/common/theme.h"
#include "widgets/train/compose_panel.h"
#include "widgets/train/train_view.h"

#include <QClipboard>
#include <QFrame>
#include <QLineEdit>
#include <QMimeData>
#include <QTabWidget>

using namespace rankwise;
using tests::FinishedRun;
using tests::kPatience;
using tests::optionsIn;

class TestSession : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void initTestCase() { tests::openGlIsAsExpected(); }

    void fuzzySearchRanks();
    void paletteFindsAndRuns();
    void everyCommandHasNameAndCommandLine();
    void undoTakesBackFormEdits();
    void sessionComesBack();
    void crashIsNoticedAndRecovered();
    void dropOpensItems();
    void badPathIsTold();
    void guiThreadStaysResponsive() { tests::guiThreadStaysResponsive(); }
};

void TestSession::fuzzySearchRanks()
{
    using common::fuzzyScore;
    QVERIFY(!fuzzyScore(QStringLiteral("xyz"), QStringLiteral("Pause run")).has_value());
    QVERIFY(*fuzzyScore(QStringLiteral("pause"), QStringLiteral("Pause run"))
            > *fuzzyScore(QStringLiteral("pause"), QStringLiteral("A pause that refreshes")) - 1);
    QVERIFY(*fuzzyScore(QStringLiteral("run"), QStringLiteral("Stop run"))
            > *fuzzyScore(QStringLiteral("run"), QStringLiteral("prune")));
    QVERIFY(fuzzyScore(QStringLiteral("qproj3"), QStringLiteral("layers.q_proj.3")).has_value());
}

void TestSession::paletteFindsAndRuns()
{
    const FinishedRun run;
    gui::MainWindow window(optionsIn(run.folder));
    window.show();
    QVERIFY(QTest::qWaitForWindowExposed(&window));
    window.workspace().addItem(run.item());
    QTRY_COMPARE_WITH_TIMEOUT(window.workspace().currentRun()->record().layers().size(), std::size_t(run.shape.layers),
                              kPatience);
    window.commands().trigger(QStringLiteral("palette.open"));
    common::Palette& palette = window.palettePopup();
    QVERIFY(palette.isVisible());
    palette.input()->setText(QStringLiteral("lm_expert q_proj"));
    QTest::keyClick(palette.input(), Qt::Key_Return);
    QVERIFY(!palette.isVisible());
    QVERIFY(window.workspace().selection().layer.contains(QStringLiteral("lm_expert")));
    QVERIFY(window.workspace().selection().layer.contains(QStringLiteral("q_proj")));
    // An action, its command line copied instead.
    window.commands().trigger(QStringLiteral("palette.open"));
    palette.input()->setText(QStringLiteral("theme: light"));
    QTest::keyClick(palette.input(), Qt::Key_C, Qt::ControlModifier);
    QCOMPARE(QApplication::clipboard()->text(), QStringLiteral("rankwise gui --theme light"));
    QTest::keyClick(palette.input(), Qt::Key_Return);
    QCOMPARE(common::currentTheme().name, QStringLiteral("light"));
    window.commands().trigger(QStringLiteral("theme.dark"));
}

void TestSession::everyCommandHasNameAndCommandLine()
{
    QTemporaryDir folder;
    gui::MainWindow window(optionsIn(folder));
    QHash<QString, QString> keys;
    QVERIFY(window.commands().commands().size() > 25);
    for (const bridge::Command& command : window.commands().commands()) {
        QVERIFY2(!command.text.isEmpty() && !command.category.isEmpty(), qPrintable(command.id));
        QVERIFY2(window.commands().commandLine(command.id).startsWith(QStringLiteral("rankwise ")),
                 qPrintable(command.id));
        const QString key = window.commands().key(command.id);
        if (!key.isEmpty()) {
            QVERIFY2(!keys.contains(key),
                     qPrintable(QStringLiteral("%1: %2 and %3").arg(key, command.id, keys.value(key))));
            keys.insert(key, command.id);
        }
    }
}

void TestSession::undoTakesBackFormEdits()
{
    QTemporaryDir folder;
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.showView(QStringLiteral("train"));
    train_view::ComposePanel& compose = window.trainView()->compose();
    window.trainView()->pages().setCurrentWidget(&compose);
    QLineEdit* steps = nullptr;
    const auto edits = compose.findChildren<QLineEdit*>();
    for (QLineEdit* edit : edits) {
        steps = edit->accessibleName() == QLatin1String("Steps") ? edit : steps;
    }
    QVERIFY(steps != nullptr);
    const QString before = steps->text();
    steps->setFocus();
    steps->selectAll();
    QTest::keyClicks(steps, QStringLiteral("77"));
    QCOMPARE(compose.form().value(QStringLiteral("steps")), QStringLiteral("77"));
    QVERIFY(window.commands().trigger(QStringLiteral("edit.undo")));
    QCOMPARE(compose.form().value(QStringLiteral("steps")), before);
    QCOMPARE(steps->text(), before);
    QVERIFY(window.commands().trigger(QStringLiteral("edit.redo")));
    QCOMPARE(steps->text(), QStringLiteral("77"));
}

void TestSession::sessionComesBack()
{
    const FinishedRun run;
    gui::Options options = optionsIn(run.folder);
    options.session = QStringLiteral("paper");
    {
        gui::MainWindow window(options);
        window.show();
        window.workspace().addItem(run.item());
        window.showView(QStringLiteral("train"));
        window.trainView()->pages().setCurrentIndex(1);
        window.workspace().selectLayer(bridge::toQString(tests::layerPath(run.shape, 3)));
        window.workspace().selectStep(35);
        window.close();
    }
    {
        gui::MainWindow window(options);
        QCOMPARE(window.workspace().selection().run, run.path);
        QCOMPARE(window.workspace().selection().step, qint64(35));
        QCOMPARE(window.workspace().selection().layer, bridge::toQString(tests::layerPath(run.shape, 3)));
        QCOMPARE(window.trainView()->pages().currentIndex(), 1);
        QVERIFY(!window.session().endedBadly());
        QVERIFY(window.session().names().contains(QStringLiteral("paper")));
    }
    options.session = QStringLiteral("another");
    gui::MainWindow window(options);
    QVERIFY(window.workspace().items().isEmpty());
}

void TestSession::crashIsNoticedAndRecovered()
{
    const FinishedRun run;
    const gui::Options options = optionsIn(run.folder);
    {
        gui::MainWindow window(options);
        window.workspace().addItem(run.item());
        window.saveSession();
    }
    // The mark of a process that is no more.
    QFile mark(run.folder.filePath(QStringLiteral("sessions/default.running")));
    QVERIFY(mark.open(QIODevice::WriteOnly));
    mark.write("999999 1");
    mark.close();
    {
        gui::MainWindow window(options);
        window.show();
        QVERIFY(window.session().endedBadly());
        QCOMPARE(window.workspace().selection().run, run.path);
        auto* card = window.findChild<QFrame*>(QStringLiteral("recovery"));
        QVERIFY(card != nullptr && card->isVisible());
        // A second window beside it takes a session of its own.
        gui::MainWindow second(options);
        QCOMPARE(second.session().name(), QStringLiteral("default-2"));
    }
    gui::MainWindow window(options);
    QVERIFY(!window.session().endedBadly());
    // A damaged session file is told and does not stop the window.
    QFile session(window.session().file(QStringLiteral("broken")));
    QVERIFY(session.open(QIODevice::WriteOnly));
    session.write("{\"version\":");
    session.close();
    gui::Options broken = options;
    broken.session = QStringLiteral("broken");
    gui::MainWindow other(broken);
    QVERIFY(other.lastMessage().contains(QStringLiteral("cannot be read")));
}

void TestSession::dropOpensItems()
{
    const FinishedRun run;
    gui::MainWindow window(optionsIn(run.folder));
    QMimeData mime;
    mime.setUrls({ QUrl::fromLocalFile(run.path), QUrl(QStringLiteral("https://example.org/model")) });
    QDragEnterEvent enter(QPoint(10, 10), Qt::CopyAction, &mime, Qt::LeftButton, Qt::NoModifier);
    QCoreApplication::sendEvent(&window, &enter);
    QVERIFY(enter.isAccepted());
    QDropEvent drop(QPointF(10, 10), Qt::CopyAction, &mime, Qt::LeftButton, Qt::NoModifier);
    QCoreApplication::sendEvent(&window, &drop);
    QVERIFY(window.lastMessage().contains(QStringLiteral("nothing is fetched")));
    QTRY_COMPARE_WITH_TIMEOUT(window.workspace().selection().run, run.path, kPatience);
    QVERIFY(window.settings().recent().front().endsWith(run.path));
}

void TestSession::badPathIsTold()
{
    QTemporaryDir folder;
    gui::MainWindow window(optionsIn(folder));
    window.workspace().openPath(folder.filePath(QStringLiteral("not there")));
    QTRY_VERIFY_WITH_TIMEOUT(window.lastMessage().startsWith(QStringLiteral("Cannot open")), kPatience);
    QVERIFY(window.workspace().items().isEmpty());
}

int main(int argc, char** argv)
{
    return tests::runTest<TestSession>(argc, argv);
}

#include "tst_session.moc"

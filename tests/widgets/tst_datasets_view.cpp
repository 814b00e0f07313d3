// The datasets view of the real window plays a recorded episode. Needs a display.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"
#include "tests/widgets/window_fixture.h"
#include "widgets/datasets/datasets_view.h"

#include <QAbstractItemModelTester>
#include <QDir>
#include <QDirIterator>
#include <QTableView>

using namespace rankwise;
using tests::kPatience;
using tests::optionsIn;

class TestDatasetsView : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void initTestCase() { tests::openGlIsAsExpected(); }

    void datasetPlays();
    void brokenDatasetIsTold();
    void guiThreadStaysResponsive() { tests::guiThreadStaysResponsive(); }
};

namespace {

/// The smallest whole dataset of the golden set.
QString goldenDataset()
{
    const QString root = qEnvironmentVariable("RANKWISE_GOLDEN_DIR", QStringLiteral(RANKWISE_TEST_DATA "/golden"));
    QDirIterator folders(root + QStringLiteral("/datasets"), { QStringLiteral("info.json") }, QDir::Files,
                         QDirIterator::Subdirectories);
    QStringList found;
    while (folders.hasNext()) {
        const QString file = folders.next();
        if (!file.contains(QStringLiteral("malformed"))) {
            found << QFileInfo(file).dir().absolutePath().chopped(5);
        }
    }
    found.sort();
    return found.value(0);
}

} // namespace

void TestDatasetsView::datasetPlays()
{
    const QString path = goldenDataset();
    QVERIFY2(!path.isEmpty(), "no golden dataset");
    QTemporaryDir folder;
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.showView(QStringLiteral("datasets"));
    window.workspace().openPath(path);
    datasets_view::DatasetsView* view = window.datasetsView();
    QTRY_VERIFY_WITH_TIMEOUT(view->episodes().rowCount() > 0, kPatience);
    const QAbstractItemModelTester tester(&view->episodes(), QAbstractItemModelTester::FailureReportingMode::QtTest);
    QTRY_VERIFY_WITH_TIMEOUT(window.workspace().selection().episode >= 0, kPatience);
    QVERIFY(!view->states().isEmpty());
    const int last = view->episodes().rowCount() - 1;
    view->table().selectRow(last);
    QCOMPARE(window.workspace().selection().episode, view->episodes().index(last, 0).data().toLongLong());
    const int shown = view->framesShown();
    QVERIFY(window.commands().trigger(QStringLiteral("datasets.play")));
    QVERIFY(window.workspace().clock().playing());
    QTRY_VERIFY_WITH_TIMEOUT(view->framesShown() > shown, kPatience);
    QTRY_VERIFY_WITH_TIMEOUT(!window.workspace().clock().playing(), 60'000);
    QCOMPARE(window.workspace().clock().seconds(), window.workspace().clock().duration());
}

void TestDatasetsView::brokenDatasetIsTold()
{
    QTemporaryDir folder;
    QDir(folder.path()).mkpath(QStringLiteral("data/meta"));
    QFile info(folder.filePath(QStringLiteral("data/meta/info.json")));
    QVERIFY(info.open(QIODevice::WriteOnly));
    info.write(R"({"codebase_version":"v3.0","total_episodes":3,"total_frames":90,"fps":0,"features":{}})");
    info.close();
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.showView(QStringLiteral("datasets"));
    window.workspace().openPath(folder.filePath(QStringLiteral("data")));
    QTRY_VERIFY_WITH_TIMEOUT(window.lastMessage().contains(QStringLiteral("cannot be used")), kPatience);
    QCOMPARE(window.datasetsView()->episodes().rowCount(), 0);
}

int main(int argc, char** argv)
{
    return tests::runTest<TestDatasetsView>(argc, argv);
}

#include "tst_datasets_view.moc"

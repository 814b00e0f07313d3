// Commands of the Spectra tab.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/resources.h"
#include "widgets/bridge/spectra_worker.h"
#include "widgets/bridge/text.h"
#include "widgets/spectra/spectra_view.h"

#include <QTabWidget>

#include <algorithm>

namespace rankwise::spectra_view {

namespace {

using ViewOf = std::function<SpectraView*(bool show)>;

QString commandLineOf(const ViewOf& view, const bridge::SpectraComputations& computations)
{
    const SpectraView* shown = view(false);
    const QString subject = shown != nullptr ? shown->subject() : QString();
    if (subject.isEmpty()) {
        return QStringLiteral("rankwise gui --do spectra.compute");
    }
    QStringList words { QStringLiteral("rankwise") };
    words += bridge::spectraArguments({ .subject = subject, .folder = computations.folder(subject) });
    return bridge::shellLine(words);
}

void computeSample(bridge::Workspace& workspace, const ViewOf& view)
{
    const auto folder = resourcePath("nano");
    if (!folder) {
        Q_EMIT view(true)->message(bridge::errorSentence(folder.error()));
        return;
    }
    const QString nano = bridge::pathText(*folder);
    workspace.addItem({ bridge::ItemKind::Checkpoint, nano, SpectraView::tr("smolvla checkpoint") });
    view(true)->showSubject(nano);
    view(true)->compute();
}

} // namespace

QStringList SpectraView::commandIds()
{
    return { QStringLiteral("spectra.compute"),
             QStringLiteral("spectra.sample"),
             QString(),
             QStringLiteral("spectra.curves"),
             QStringLiteral("spectra.ranks"),
             QStringLiteral("spectra.surface"),
             QStringLiteral("spectra.table"),
             QString(),
             QStringLiteral("spectra.copy_table"),
             QStringLiteral("spectra.export_table") };
}

void SpectraView::addCommands(bridge::CommandRegistry& commands, bridge::Workspace& workspace,
                              bridge::SpectraComputations& computations, ViewOf view)
{
    const QString category = tr("Spectra");
    const auto computable = [&workspace] {
        return std::ranges::any_of(workspace.items(), [](const auto& item) { return bridge::hasSpectra(item.kind); });
    };
    commands.add({ .id = QStringLiteral("spectra.compute"),
                   .category = category,
                   .text = tr("Compute spectra"),
                   .key = QStringLiteral("F8"),
                   .help = tr("Singular values of the shown checkpoint or adapter, in a worker process that outlives "
                              "this window"),
                   .run = [view] { view(true)->compute(); },
                   .enabled = computable,
                   .commandLine = [view, &computations] { return commandLineOf(view, computations); } });
    commands.add({ .id = QStringLiteral("spectra.sample"),
                   .category = category,
                   .text = tr("Spectra of the nano policy"),
                   .key = {},
                   .help = tr("Opens the small policy that comes along and computes its spectra"),
                   .run = [view, &workspace] { computeSample(workspace, view); } });
    const auto page = [&](const char* id, const QString& text, const char* key, int index) {
        commands.add({ .id = QLatin1String(id),
                       .category = category,
                       .text = text,
                       .key = QLatin1String(key),
                       .help = {},
                       .run = [view, index] { view(true)->pages().setCurrentIndex(index); } });
    };
    page("spectra.curves", tr("Show singular values and energy"), "Alt+4", 0);
    page("spectra.ranks", tr("Show ranks against layers"), "Alt+5", 1);
    page("spectra.surface", tr("Show the spectra as a surface"), "Alt+6", 2);
    page("spectra.table", tr("Show the table of ranks"), "Alt+7", 3);
    commands.add({ .id = QStringLiteral("spectra.copy_table"),
                   .category = category,
                   .text = tr("Copy the table of ranks"),
                   .key = {},
                   .help = {},
                   .run = [view] { view(true)->layers().copy(); } });
    commands.add({ .id = QStringLiteral("spectra.export_table"),
                   .category = category,
                   .text = tr("Export the table of ranks…"),
                   .key = {},
                   .help = tr("As CSV"),
                   .run = [view] { view(true)->layers().exportDialog(); } });
}

} // namespace rankwise::spectra_view

// SPDX-License-Identifier: Apache-2.0
#include "widgets/datasets/datasets_view.h"

#include "widgets/bridge/run_control.h"
#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"
#include "widgets/datasets/statistics_panel.h"
#include "widgets/datasets/thumbnail_delegate.h"

#include <QDateTime>
#include <QDir>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QProcess>
#include <QPushButton>
#include <QSignalBlocker>
#include <QSlider>
#include <QSplitter>
#include <QStackedWidget>
#include <QTableView>
#include <QTabWidget>
#include <QToolButton>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>

namespace rankwise::datasets_view {

namespace {

constexpr int kTilePixels = 200;
constexpr int kSampleEpisodes = 10;

QStringList sampleArguments(const QString& folder)
{
    return { QStringLiteral("sim"),        QStringLiteral("record"),
             QStringLiteral("--task"),     QStringLiteral("press_button"),
             QStringLiteral("--episodes"), QString::number(kSampleEpisodes),
             QStringLiteral("--out"),      folder };
}

QString sampleFolder(const bridge::Settings& settings)
{
    return QDir(settings.runsFolder())
        .filePath(QStringLiteral("sample-press_button-")
                  + QDateTime::currentDateTime().toString(QStringLiteral("yyyyMMdd-HHmmss")));
}

} // namespace

DatasetsView::DatasetsView(bridge::Workspace& workspace, bridge::Settings& settings, common::ActionBinder& actions,
                           QWidget* parent)
    : QWidget(parent), m_workspace(workspace), m_settings(settings), m_model(new bridge::EpisodeModel(this)),
      m_thumbnails(new ThumbnailDelegate(workspace.jobs(), this)), m_stack(new QStackedWidget), m_table(new QTableView),
      m_info(new QLabel), m_emptyText(new QLabel), m_tiles(new QHBoxLayout),
      m_states(new common::LineChart(tr("State"), tr("seconds"), tr("rad, m"), this)),
      m_actions(new common::LineChart(tr("Action"), tr("seconds"), tr("rad, m"), this)),
      m_slider(new QSlider(Qt::Horizontal)), m_play(new QPushButton(tr("Play"))), m_time(new QLabel),
      m_statistics(new StatisticsPanel(workspace))
{
    auto* empty = new QWidget;
    auto* emptyLayout = new QVBoxLayout(empty);
    auto* headline = new QLabel(tr("No dataset is open"));
    headline->setProperty("role", QStringLiteral("title"));
    headline->setAlignment(Qt::AlignCenter);
    m_emptyText->setText(
        tr("Open a LeRobotDataset (v2.1 or v3.0), drop one here, or record a few episodes of the scripted "
           "expert on the practice arm."));
    m_emptyText->setAlignment(Qt::AlignCenter);
    m_emptyText->setWordWrap(true);
    auto* buttons = new QHBoxLayout;
    buttons->addStretch();
    buttons->addWidget(actions.button(QStringLiteral("file.open")));
    buttons->addWidget(actions.button(QStringLiteral("datasets.sample")));
    buttons->addStretch();
    emptyLayout->addStretch();
    emptyLayout->addWidget(headline);
    emptyLayout->addWidget(m_emptyText);
    emptyLayout->addLayout(buttons);
    emptyLayout->addStretch();

    m_table->setModel(m_model);
    m_table->setAccessibleName(tr("Episodes"));
    m_table->setSelectionBehavior(QAbstractItemView::SelectRows);
    m_table->setSelectionMode(QAbstractItemView::SingleSelection);
    m_table->setAlternatingRowColors(true);
    m_table->setWordWrap(false);
    m_table->verticalHeader()->hide();
    m_table->verticalHeader()->setDefaultSectionSize(ThumbnailDelegate::kHeight + 4);
    m_table->horizontalHeader()->setStretchLastSection(true);
    m_table->setItemDelegateForColumn(bridge::EpisodeModel::Number, m_thumbnails);
    m_table->setColumnWidth(bridge::EpisodeModel::Number, 104);
    m_table->setColumnWidth(bridge::EpisodeModel::Seconds, 72);
    m_table->setColumnWidth(bridge::EpisodeModel::Task, 140);
    m_table->setColumnWidth(bridge::EpisodeModel::Success, 68);
    auto* player = new QWidget;
    auto* playerLayout = new QVBoxLayout(player);
    playerLayout->setContentsMargins(0, 0, 0, 0);
    playerLayout->addLayout(m_tiles);
    auto* bar = new QHBoxLayout;
    bar->addWidget(m_play);
    bar->addWidget(m_slider, 1);
    bar->addWidget(m_time);
    m_slider->setAccessibleName(tr("Frame of the episode"));
    playerLayout->addLayout(bar);
    m_states->setXIsInteger(false);
    m_actions->setXIsInteger(false);
    playerLayout->addWidget(new common::ChartView(*m_states), 1);
    playerLayout->addWidget(new common::ChartView(*m_actions), 1);
    auto* splitter = new QSplitter;
    splitter->setObjectName(QStringLiteral("datasets.splitter"));
    splitter->addWidget(m_table);
    auto* pages = new QTabWidget;
    pages->setDocumentMode(true);
    pages->addTab(player, tr("Player"));
    pages->addTab(m_statistics, tr("Statistics"));
    splitter->addWidget(pages);
    splitter->setStretchFactor(0, 1);
    splitter->setStretchFactor(1, 1);
    splitter->setChildrenCollapsible(false);
    splitter->setSizes({ 520, 510 });
    auto* page = new QWidget;
    auto* pageLayout = new QVBoxLayout(page);
    pageLayout->setContentsMargins(6, 4, 6, 4);
    m_info->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
    pageLayout->addWidget(m_info);
    pageLayout->addWidget(splitter, 1);
    m_stack->addWidget(empty);
    m_stack->addWidget(page);
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->addWidget(m_stack);

    connect(m_thumbnails, &ThumbnailDelegate::ready, m_table->viewport(), qOverload<>(&QWidget::update));
    connect(m_table->selectionModel(), &QItemSelectionModel::currentRowChanged, this, [this](const QModelIndex& index) {
        if (index.isValid() && m_dataset) {
            m_workspace.selectEpisode(m_dataset->reader->episodes()[static_cast<std::size_t>(index.row())].index);
        }
    });
    bridge::ReplayClock& clock = workspace.clock();
    connect(&workspace, &bridge::Workspace::datasetSelected, this, &DatasetsView::openSelected);
    connect(&workspace, &bridge::Workspace::episodeSelected, this, &DatasetsView::showEpisode);
    connect(&clock, &bridge::ReplayClock::changed, this, &DatasetsView::showTime);
    connect(&clock, &bridge::ReplayClock::playingChanged, this,
            [this](bool playing) { m_play->setText(playing ? tr("Pause") : tr("Play")); });
    connect(m_play, &QPushButton::clicked, this, &DatasetsView::togglePlay);
    connect(m_slider, &QSlider::valueChanged, this, [this](int frame) {
        if (m_dataset) {
            m_workspace.clock().seek(frame / static_cast<double>(m_dataset->reader->info().fps));
        }
    });
    for (common::LineChart* chart : { m_states, m_actions }) {
        connect(chart, &common::LineChart::clicked, &clock, &bridge::ReplayClock::seek);
    }
    openSelected();
}

QStringList DatasetsView::commandIds()
{
    return { QStringLiteral("datasets.sample"), QStringLiteral("datasets.play") };
}

void DatasetsView::addCommands(bridge::CommandRegistry& commands, bridge::Workspace& workspace,
                               bridge::Settings& settings, std::function<DatasetsView*()> view)
{
    commands.add({ .id = QStringLiteral("datasets.sample"),
                   .category = tr("Datasets"),
                   .text = tr("Record sample episodes"),
                   .key = {},
                   .help = tr("Ten episodes of the scripted expert on the practice arm, as a dataset"),
                   .run = [view] { view()->recordSample(); },
                   .commandLine =
                       [&settings] {
                           return bridge::shellLine(QStringList { QStringLiteral("rankwise") }
                                                    + sampleArguments(sampleFolder(settings)));
                       } });
    commands.add({ .id = QStringLiteral("datasets.play"),
                   .category = tr("Datasets"),
                   .text = tr("Play the episode"),
                   .key = QStringLiteral("Ctrl+Space"),
                   .help = tr("Cameras, curves and the arm follow one clock"),
                   .run = [view] { view()->togglePlay(); },
                   .enabled = [&workspace] { return workspace.selection().episode >= 0; } });
}

void DatasetsView::recordSample()
{
    const QString program = bridge::commandProgram();
    if (program.isEmpty()) {
        Q_EMIT message(tr("The rankwise program is not beside this one; build or install the whole project."));
        return;
    }
    const QString folder = sampleFolder(m_settings);
    QDir().mkpath(m_settings.runsFolder());
    m_emptyText->setText(tr("Recording %1 episodes…").arg(kSampleEpisodes));
    auto* process = new QProcess(this);
    process->setProcessChannelMode(QProcess::MergedChannels);
    connect(process, &QProcess::finished, this, [this, process, folder](int code, QProcess::ExitStatus) {
        if (code == 0) {
            m_workspace.openPath(folder);
        } else {
            const QString output = QString::fromUtf8(process->readAll()).trimmed();
            m_emptyText->setText(tr("Recording failed: %1").arg(output.right(400)));
            Q_EMIT message(tr("Recording failed: %1").arg(output.section(QLatin1Char('\n'), -1)));
        }
        process->deleteLater();
    });
    process->start(program, sampleArguments(folder));
}

void DatasetsView::openSelected()
{
    const QString path = m_workspace.selection().dataset;
    if (path == m_shownPath) {
        return;
    }
    m_shownPath = path;
    if (m_opening) {
        m_opening->cancel();
    }
    m_dataset.reset();
    m_model->setDataset(nullptr);
    m_statistics->setDataset(nullptr);
    m_thumbnails->setDataset(nullptr);
    m_episode = -1;
    if (path.isEmpty()) {
        m_stack->setCurrentIndex(0);
        return;
    }
    m_emptyText->setText(tr("Opening %1…").arg(path));
    m_opening = m_workspace.jobs().start<bridge::OpenedDataset>(
        tr("Open dataset %1").arg(QDir(path).dirName()),
        [root = bridge::toPath(path)](const JobContext& job) { return bridge::openDataset(root, job); }, this,
        [this, path](Result<bridge::OpenedDataset> opened) {
            if (path != m_shownPath) {
                return;
            }
            if (!opened) {
                m_emptyText->setText(tr("%1 cannot be used: %2").arg(path, bridge::errorSentence(opened.error())));
                m_stack->setCurrentIndex(0);
                Q_EMIT message(m_emptyText->text());
                return;
            }
            m_dataset = std::make_shared<const bridge::OpenedDataset>(std::move(*opened));
            const data::DatasetInfo& info = m_dataset->reader->info();
            QString text = tr("%1 · LeRobotDataset %2 · %3 episodes · %4 frames at %5 fps · %6")
                               .arg(QDir(path).dirName(), bridge::toQString(data::datasetVersionName(info.version)))
                               .arg(m_dataset->reader->episodes().size())
                               .arg(m_dataset->reader->frameCount())
                               .arg(info.fps)
                               .arg(bridge::toQString(info.robotType));
            if (!m_dataset->warnings.empty()) {
                text += tr(" · ⚠ %1 remarks").arg(m_dataset->warnings.size());
                QStringList lines;
                for (const Warning& warning : m_dataset->warnings) {
                    lines << bridge::toQString(warning.subject + ": " + warning.message);
                }
                m_info->setToolTip(lines.join(QLatin1Char('\n')));
            }
            m_info->setText(text);
            m_model->setDataset(m_dataset);
            m_statistics->setDataset(m_dataset);
            m_thumbnails->setDataset(m_dataset);
            makeTiles();
            judgeNext();
            m_stack->setCurrentIndex(1);
            const qint64 wanted = m_workspace.selection().episode;
            if (m_model->rowCount() > 0) {
                if (wanted < 0) {
                    m_workspace.selectEpisode(m_dataset->reader->episodes().front().index);
                } else {
                    showEpisode(wanted);
                }
            }
        });
}

/// Quality flags come a stretch at a time, after the list is there.
void DatasetsView::judgeNext()
{
    if (!m_dataset || m_model->judged() >= m_dataset->reader->episodes().size()) {
        return;
    }
    m_workspace.jobs().start<bridge::QualityStretch>(
        QString(),
        [dataset = m_dataset, first = m_model->judged()](const JobContext& job) {
            return bridge::nextQuality(*dataset, first, job);
        },
        this,
        [this, dataset = m_dataset](const Result<bridge::QualityStretch>& stretch) {
            if (stretch && dataset == m_dataset) {
                m_model->setQuality(*stretch);
                judgeNext();
            }
        });
}

void DatasetsView::makeTiles()
{
    while (QLayoutItem* item = m_tiles->takeAt(0)) {
        delete item->widget();
        delete item;
    }
    m_pictures.clear();
    const std::vector<std::string> cameras = m_dataset->reader->info().cameraKeys();
    for (std::size_t i = 0; i < cameras.size() && i < 4; ++i) {
        auto* tile = new QWidget;
        auto* column = new QVBoxLayout(tile);
        column->setContentsMargins(0, 0, 0, 0);
        auto* name = new QLabel(bridge::toQString(cameras[i]).section(QLatin1Char('.'), -1));
        name->setProperty("role", QStringLiteral("heading"));
        auto* picture = new QLabel;
        picture->setFixedHeight(kTilePixels);
        picture->setMinimumWidth(80);
        picture->setAlignment(Qt::AlignLeft | Qt::AlignTop);
        picture->setAccessibleName(tr("Camera %1").arg(name->text()));
        column->addWidget(name);
        column->addWidget(picture);
        m_tiles->addWidget(tile);
        m_pictures.push_back(picture);
    }
    m_tiles->addStretch();
}

void DatasetsView::showEpisode(qint64 number)
{
    if (!m_dataset || number == m_episode) {
        return;
    }
    const auto& episodes = m_dataset->reader->episodes();
    const auto found = std::find_if(episodes.begin(), episodes.end(), [&](const auto& e) { return e.index == number; });
    if (found == episodes.end()) {
        return;
    }
    m_episode = number;
    {
        const QSignalBlocker blocker(m_table->selectionModel());
        m_table->selectRow(static_cast<int>(found - episodes.begin()));
    }
    const double fps = static_cast<double>(m_dataset->reader->info().fps);
    const auto fill = [&](common::LineChart& chart, const std::string& key,
                          const std::vector<std::vector<double>>& rows) {
        std::vector<common::LineChart::Curve> curves;
        const data::Feature* feature = m_dataset->reader->info().find(key);
        const std::size_t width = rows.empty() ? 0 : rows.front().size();
        for (std::size_t k = 0; k < std::min<std::size_t>(width, 16); ++k) {
            auto series = std::make_shared<common::Series>();
            for (std::size_t t = 0; t < rows.size(); ++t) {
                series->append(static_cast<double>(t) / fps, rows[t][k]);
            }
            QString name = feature != nullptr && k < feature->names.size() ? bridge::toQString(feature->names[k])
                                                                           : QString::number(k);
            name.remove(QStringLiteral(".pos"));
            name.replace(QStringLiteral("joint_"), QStringLiteral("J"));
            curves.push_back({ name, series, k, false });
        }
        chart.setTitle(bridge::toQString(key.empty() ? "state" : key));
        chart.setView(std::nullopt);
        chart.setCurves(std::move(curves));
    };
    m_stateRows = bridge::episodeColumn(*m_dataset->reader, *found, m_dataset->stateKey);
    fill(*m_states, m_dataset->stateKey, m_stateRows);
    fill(*m_actions, m_dataset->actionKey, bridge::episodeColumn(*m_dataset->reader, *found, m_dataset->actionKey));
    {
        const QSignalBlocker blocker(m_slider);
        m_slider->setRange(0, static_cast<int>(std::max<std::int64_t>(0, found->length - 1)));
    }
    m_workspace.clock().setDuration(static_cast<double>(std::max<std::int64_t>(0, found->length - 1)) / fps);
}

void DatasetsView::togglePlay()
{
    bridge::ReplayClock& clock = m_workspace.clock();
    if (clock.playing()) {
        clock.pause();
    } else {
        clock.play();
    }
}

void DatasetsView::showTime(double seconds)
{
    if (!m_dataset || m_episode < 0) {
        return;
    }
    const auto& episodes = m_dataset->reader->episodes();
    const auto found =
        std::find_if(episodes.begin(), episodes.end(), [&](const auto& e) { return e.index == m_episode; });
    if (found == episodes.end() || found->length == 0) {
        return;
    }
    const double fps = static_cast<double>(m_dataset->reader->info().fps);
    const std::int64_t frame = std::clamp<std::int64_t>(std::llround(seconds * fps), 0, found->length - 1);
    {
        const QSignalBlocker blocker(m_slider);
        m_slider->setValue(static_cast<int>(frame));
    }
    m_time->setText(tr("%1 s of %2 s").arg(seconds, 0, 'f', 1).arg(m_workspace.clock().duration(), 0, 'f', 1));
    m_states->setMarker(static_cast<double>(frame) / fps);
    m_actions->setMarker(static_cast<double>(frame) / fps);
    if (static_cast<std::size_t>(frame) < m_stateRows.size()) {
        const std::vector<double>& state = m_stateRows[static_cast<std::size_t>(frame)];
        m_workspace.replayState(QVector<double>(state.begin(), state.end()));
    }
    requestFrames(found->fromIndex + frame);
}

void DatasetsView::requestFrames(std::int64_t index)
{
    if (m_decoding) {
        m_wanted = index; // Only the newest is worth decoding.
        return;
    }
    m_decoding = true;
    m_workspace.jobs().start<Frames>(
        QString(),
        [dataset = m_dataset, index](const JobContext&) -> Result<Frames> {
            Frames frames { .index = index, .images = {} };
            for (const std::string& key : dataset->reader->info().cameraKeys()) {
                RW_TRY(data::ImagePtr image, dataset->reader->image(key, index));
                frames.images.push_back(std::move(image));
            }
            return frames;
        },
        this,
        [this](Result<Frames> frames) {
            m_decoding = false;
            if (frames) {
                for (std::size_t i = 0; i < frames->images.size() && i < m_pictures.size(); ++i) {
                    const data::Image& image = *frames->images[i];
                    const QImage::Format format =
                        image.channels == 1 ? QImage::Format_Grayscale8 : QImage::Format_RGB888;
                    const QImage picture(image.pixels.data(), image.width, image.height, image.channels * image.width,
                                         format);
                    m_pictures[i]->setPixmap(QPixmap::fromImage(
                        picture.scaled(kTilePixels * 2, kTilePixels, Qt::KeepAspectRatio, Qt::SmoothTransformation)));
                }
                ++m_framesShown;
            } else {
                Q_EMIT message(tr("A frame cannot be shown: %1").arg(bridge::errorSentence(frames.error())));
            }
            if (m_wanted) {
                requestFrames(*std::exchange(m_wanted, std::nullopt));
            }
        });
}

} // namespace rankwise::datasets_view

// SPDX-License-Identifier: Apache-2.0
#include "widgets/train/telemetry_panel.h"

#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"

#include <QGridLayout>
#include <QLabel>
#include <QSlider>
#include <QToolButton>

#include <span>

namespace rankwise::train_view {

using bridge::RunTail;
using bridge::StepColumns;

namespace {

enum PlotIndex : std::size_t { Loss, LearningRate, GradientNorm, Speed, StepTime, PlotCount };

} // namespace

TelemetryPanel::TelemetryPanel(bridge::Workspace& workspace, QWidget* parent)
    : QWidget(parent), m_workspace(workspace), m_smoothing(new QSlider(Qt::Horizontal))
{
    const QString step = tr("step");
    const auto add = [&](const QString& title, const QString& unit) {
        Plot plot;
        plot.chart = new common::LineChart(title, step, unit, this);
        connect(plot.chart, &common::LineChart::clicked, this,
                [this](double x) { m_workspace.selectStep(static_cast<qint64>(x + 0.5)); });
        m_plots.push_back(std::move(plot));
        return new common::ChartView(*m_plots.back().chart);
    };
    // The plots share their x: what one shows and reads, all do.
    const auto link = [this](common::LineChart* chart) {
        connect(chart, &common::LineChart::viewChanged, this, [this, chart] {
            for (const Plot& plot : m_plots) {
                plot.chart->setView(chart->view());
            }
        });
        connect(chart, &common::LineChart::crosshairChanged, this, [this, chart] {
            for (const Plot& plot : m_plots) {
                plot.chart->setCrosshair(chart->crosshair());
            }
        });
    };
    const auto addLogarithmic = [](common::ChartView* view, common::LineChart* chart) {
        auto* box = new QToolButton;
        box->setText(tr("Log"));
        box->setCheckable(true);
        box->setAutoRaise(true);
        box->setToolTip(tr("Logarithmic axis; L on the plot"));
        box->setAccessibleName(tr("%1: logarithmic axis").arg(chart->title()));
        connect(box, &QToolButton::toggled, chart, &common::LineChart::setLogarithmic);
        connect(chart, &common::LineChart::logarithmicChanged, box, &QToolButton::setChecked);
        view->addTool(box);
    };
    auto* grid = new QGridLayout(this);
    grid->setContentsMargins(4, 4, 4, 4);
    grid->setSpacing(6);
    common::ChartView* losses = add(tr("Losses"), tr("loss"));
    common::ChartView* rate = add(tr("Learning rate"), tr("rate"));
    common::ChartView* norm = add(tr("Gradient norm"), tr("norm before clipping"));
    grid->addWidget(losses, 0, 0, 2, 2);
    grid->addWidget(rate, 0, 2);
    grid->addWidget(norm, 1, 2);
    grid->addWidget(add(tr("Speed"), tr("samples/s")), 2, 0, 1, 2);
    grid->addWidget(add(tr("Time of a step"), tr("seconds")), 2, 2);
    addSmoothing(*losses);
    addLogarithmic(losses, m_plots[Loss].chart);
    addLogarithmic(rate, m_plots[LearningRate].chart);
    addLogarithmic(norm, m_plots[GradientNorm].chart);
    for (const Plot& plot : m_plots) {
        link(plot.chart);
    }
    for (int row = 0; row < 3; ++row) {
        grid->setRowStretch(row, 1);
    }
    grid->setColumnStretch(0, 1);
    grid->setColumnStretch(1, 1);
    grid->setColumnStretch(2, 2);
    connect(&workspace, &bridge::Workspace::stepSelected, this, [this](qint64 selected) {
        for (const Plot& plot : m_plots) {
            plot.chart->setMarker(selected >= 0 ? std::optional(static_cast<double>(selected)) : std::nullopt);
        }
    });
    connect(&workspace, &bridge::Workspace::itemClosed, this, &TelemetryPanel::rebuild);
    connect(&workspace, &bridge::Workspace::itemAdded, this, [this] {
        if (m_overlay) {
            rebuild();
        }
    });
}

void TelemetryPanel::addSmoothing(common::ChartView& view)
{
    m_smoothing->setRange(0, 999);
    m_smoothing->setPageStep(100);
    m_smoothing->setMaximumWidth(130);
    m_smoothing->setAccessibleName(tr("Smoothing of the curves"));
    m_smoothing->setToolTip(tr("Weight of the past in an exponential moving average; the raw curves stay, faint"));
    auto* label = new QLabel(tr("Smoothing"));
    auto* value = new QLabel(QStringLiteral("0.000"));
    value->setMinimumWidth(value->fontMetrics().horizontalAdvance(QStringLiteral("0.000 ")));
    label->setBuddy(m_smoothing);
    view.addTool(label);
    view.addTool(m_smoothing);
    view.addTool(value);
    connect(m_smoothing, &QSlider::valueChanged, this, [this, value](int thousandths) {
        value->setText(QString::number(thousandths / 1000.0, 'f', 3));
        for (const std::size_t plot : { Loss, GradientNorm, Speed, StepTime }) {
            m_plots[plot].chart->setSmoothing(thousandths / 1000.0);
        }
    });
}

void TelemetryPanel::setRun(RunTail* run)
{
    if (m_run != run) {
        m_run = run;
        rebuild();
    }
}

void TelemetryPanel::setOverlay(bool on)
{
    m_overlay = on;
    rebuild();
}

void TelemetryPanel::watch(RunTail* run)
{
    m_connections << connect(run, &RunTail::updated, this, &TelemetryPanel::takeNew);
}

void TelemetryPanel::addLine(Plot& plot, std::vector<common::LineChart::Curve>& curves, RunTail* run,
                             const QString& name, std::size_t color, bool faint, Column column)
{
    auto series = std::make_shared<common::Series>();
    plot.lines.push_back({ run, std::move(column), series, 0, 0 });
    curves.push_back({ name, series, color, faint });
}

void TelemetryPanel::rebuild()
{
    for (const QMetaObject::Connection& connection : std::as_const(m_connections)) {
        disconnect(connection);
    }
    m_connections.clear();
    std::vector<std::vector<common::LineChart::Curve>> curves(PlotCount);
    for (Plot& plot : m_plots) {
        plot.lines.clear();
    }
    m_auxCount = 0;
    std::size_t overlays = 0;
    QVector<RunTail*> runs;
    if (m_run) {
        runs << m_run;
    }
    if (m_overlay) {
        for (RunTail* other : m_workspace.runs()) {
            if (other != m_run) {
                runs << other;
            }
        }
    }
    for (RunTail* run : std::as_const(runs)) {
        const bool faint = run != m_run;
        const auto color = [&](std::size_t own) { return faint ? 1 + overlays : own; };
        // Over each other curves are told apart by their runs, and only what all runs have is drawn.
        const auto name = [&](const QString& own) { return m_overlay ? run->title() : own; };
        addLine(m_plots[Loss], curves[Loss], run, name(tr("task loss")), color(0), faint,
                [](const StepColumns& c) { return &c.loss; });
        addLine(m_plots[LearningRate], curves[LearningRate], run, name(tr("learning rate")), color(0), faint,
                [](const StepColumns& c) { return &c.lr; });
        addLine(m_plots[GradientNorm], curves[GradientNorm], run, name(tr("norm")), color(0), faint,
                [](const StepColumns& c) { return &c.gradNorm; });
        addLine(m_plots[Speed], curves[Speed], run, name(tr("samples/s")), color(0), faint,
                [](const StepColumns& c) { return &c.samplesPerSecond; });
        addLine(m_plots[StepTime], curves[StepTime], run,
                m_overlay ? tr("%1 computing").arg(run->title()) : tr("computing"), color(0), faint,
                [](const StepColumns& c) { return &c.computeSeconds; });
        if (!faint) {
            m_auxCount = run->record().steps.aux.size();
        }
        if (!m_overlay) {
            addLine(m_plots[StepTime], curves[StepTime], run, tr("waiting for data"), 1, false,
                    [](const StepColumns& c) { return &c.loadSeconds; });
            const auto& aux = run->record().steps.aux;
            if (!aux.empty()) {
                addLine(m_plots[Loss], curves[Loss], run, tr("total"), 1, false,
                        [](const StepColumns& c) { return &c.total; });
            }
            std::size_t index = 2;
            for (const auto& [key, values] : aux) {
                addLine(m_plots[Loss], curves[Loss], run, bridge::toQString(key), index++, false,
                        [key = key](const StepColumns& c) -> const std::vector<double>* {
                            const auto found = c.aux.find(key);
                            return found == c.aux.end() ? nullptr : &found->second;
                        });
            }
        } else if (faint) {
            ++overlays;
        }
        watch(run);
    }
    for (std::size_t i = 0; i < m_plots.size(); ++i) {
        m_plots[i].chart->setCurves(std::move(curves[i]));
    }
    takeNew();
}

void TelemetryPanel::takeNew()
{
    if (m_run && m_run->record().steps.aux.size() != m_auxCount) {
        rebuild();
        return;
    }
    for (Plot& plot : m_plots) {
        bool grew = false;
        for (Line& line : plot.lines) {
            if (!line.run) {
                continue;
            }
            const bridge::RunRecord& record = line.run->record();
            if (line.epoch != record.epoch) {
                line.series->clear();
                line.taken = 0;
                line.epoch = record.epoch;
            }
            const std::vector<double>* values = line.column(record.steps);
            if (values != nullptr && line.taken < values->size()) {
                line.series->append(std::span(record.steps.step).subspan(line.taken),
                                    std::span(*values).subspan(line.taken));
                line.taken = values->size();
                grew = true;
            }
        }
        if (grew) {
            plot.chart->seriesGrew();
        }
    }
}

} // namespace rankwise::train_view

// SPDX-License-Identifier: Apache-2.0
#include "app/gui/view_tabs.h"

#include "widgets/common/chart_view.h"

#include <QVBoxLayout>

#include <algorithm>

namespace rankwise::gui {

ViewTabs::ViewTabs(std::vector<ViewEntry> entries, QWidget* parent)
    : QTabWidget(parent), m_entries(std::move(entries)), m_tabs(m_entries.size())
{
    setDocumentMode(true);
    setAccessibleName(tr("Workspaces"));
    for (std::size_t i = 0; i < m_entries.size(); ++i) {
        m_tabs[i].page = new QWidget;
        auto* layout = new QVBoxLayout(m_tabs[i].page);
        layout->setContentsMargins(0, 0, 0, 0);
        addTab(m_tabs[i].page, m_entries[i].title);
    }
    connect(this, &QTabWidget::currentChanged, this, [this](int index) {
        if (index >= 0) {
            make(m_entries[static_cast<std::size_t>(index)].id);
        }
    });
}

ViewTabs::~ViewTabs() = default;

qsizetype ViewTabs::indexOf(const QString& id) const
{
    const auto found =
        std::find_if(m_entries.begin(), m_entries.end(), [&](const ViewEntry& entry) { return entry.id == id; });
    return found == m_entries.end() ? -1 : found - m_entries.begin();
}

QStringList ViewTabs::ids() const
{
    QStringList ids;
    for (const ViewEntry& entry : m_entries) {
        ids << entry.id;
    }
    return ids;
}

QWidget* ViewTabs::find(const QString& id) const
{
    const qsizetype at = indexOf(id);
    return at < 0 ? nullptr : m_tabs[static_cast<std::size_t>(at)].view;
}

QWidget* ViewTabs::make(const QString& id)
{
    const qsizetype at = indexOf(id);
    if (at < 0 || m_context == nullptr) {
        return nullptr;
    }
    Tab& tab = m_tabs[static_cast<std::size_t>(at)];
    if (tab.view == nullptr) {
        tab.view = m_entries[static_cast<std::size_t>(at)].make(*m_context);
        tab.page->layout()->addWidget(tab.view);
        const auto frames = tab.view->findChildren<common::CanvasFrame*>();
        for (common::CanvasFrame* frame : frames) {
            connect(frame, &common::CanvasFrame::message, this, m_context->say);
        }
    }
    return tab.view;
}

void ViewTabs::showView(const QString& id)
{
    if (make(id) != nullptr) {
        setCurrentIndex(static_cast<int>(indexOf(id)));
    }
}

void ViewTabs::showKind(bridge::ItemKind kind)
{
    for (const ViewEntry& entry : m_entries) {
        if (entry.kinds.contains(kind)) {
            showView(entry.id);
            return;
        }
    }
}

QString ViewTabs::currentId() const
{
    return currentIndex() < 0 ? QString() : m_entries[static_cast<std::size_t>(currentIndex())].id;
}

void ViewTabs::clear()
{
    for (Tab& tab : m_tabs) {
        delete tab.view;
        tab.view = nullptr;
    }
}

void ViewTabs::addCommands()
{
    for (const ViewEntry& entry : m_entries) {
        m_context->commands.add({ .id = QStringLiteral("view.") + entry.id,
                                  .category = tr("View"),
                                  .text = tr("Go to %1").arg(entry.title),
                                  .key = entry.key,
                                  .help = {},
                                  .run = [this, id = entry.id] { showView(id); } });
        entry.addCommands(*m_context);
    }
}

std::vector<common::PaletteSource> ViewTabs::paletteSources() const
{
    std::vector<common::PaletteSource> all;
    for (const ViewEntry& entry : m_entries) {
        if (entry.palette) {
            for (common::PaletteSource& source : entry.palette(*m_context)) {
                all.push_back(std::move(source));
            }
        }
    }
    return all;
}

bool ViewTabs::settled() const
{
    for (std::size_t i = 0; i < m_entries.size(); ++i) {
        if (m_tabs[i].view != nullptr && m_entries[i].settled && !m_entries[i].settled(*m_tabs[i].view)) {
            return false;
        }
    }
    return true;
}

QJsonObject ViewTabs::save() const
{
    QJsonObject pages;
    for (std::size_t i = 0; i < m_tabs.size(); ++i) {
        const auto* inner = m_tabs[i].view != nullptr ? m_tabs[i].view->findChild<QTabWidget*>() : nullptr;
        if (inner != nullptr) {
            pages.insert(m_entries[i].id, inner->currentIndex());
        }
    }
    return { { QStringLiteral("tab"), currentId() }, { QStringLiteral("pages"), pages } };
}

void ViewTabs::restore(const QJsonObject& saved)
{
    showView(saved.value(QStringLiteral("tab")).toString());
    const QJsonObject pages = saved.value(QStringLiteral("pages")).toObject();
    for (auto page = pages.begin(); page != pages.end(); ++page) {
        QWidget* restored = make(page.key());
        if (auto* inner = restored != nullptr ? restored->findChild<QTabWidget*>() : nullptr) {
            inner->setCurrentIndex(page.value().toInt());
        }
    }
}

} // namespace rankwise::gui

// SPDX-License-Identifier: Apache-2.0
#include "app/gui/notice_bar.h"

#include <QFrame>
#include <QHBoxLayout>
#include <QLabel>
#include <QPushButton>
#include <QVBoxLayout>

namespace rankwise::gui {

namespace {
constexpr int kMaxNotices = 4;
}

NoticeBar::NoticeBar(QWidget* parent) : QWidget(parent), m_layout(new QVBoxLayout(this))
{
    m_layout->setContentsMargins(0, 0, 0, 0);
    m_layout->setSpacing(2);
    setAccessibleName(tr("Notices"));
    hide();
}

QFrame* NoticeBar::add(const QString& name, const QString& text, const std::vector<Answer>& answers,
                       const QString& role)
{
    remove(name);
    if (m_layout->count() >= kMaxNotices) {
        remove(m_layout->itemAt(0)->widget()->objectName());
    }
    auto* card = new QFrame;
    card->setObjectName(name);
    card->setAccessibleName(text);
    card->setFrameShape(QFrame::StyledPanel);
    card->setProperty("role", role);
    auto* words = new QLabel(text);
    words->setWordWrap(true);
    words->setTextInteractionFlags(Qt::TextSelectableByMouse);
    auto* layout = new QHBoxLayout(card);
    layout->setContentsMargins(8, 4, 8, 4);
    layout->addWidget(words, 1);
    for (const Answer& answer : answers) {
        auto* button = new QPushButton(answer.text);
        button->setAccessibleDescription(text);
        layout->addWidget(button);
        connect(button, &QPushButton::clicked, this, [this, name, run = answer.run] {
            remove(name);
            if (run) {
                run();
            }
        });
    }
    m_layout->addWidget(card);
    card->show();
    show();
    return card;
}

void NoticeBar::remove(const QString& name)
{
    if (auto* card = findChild<QFrame*>(name, Qt::FindDirectChildrenOnly)) {
        m_layout->removeWidget(card);
        card->setObjectName({});
        card->hide();
        card->deleteLater();
    }
    setVisible(m_layout->count() > 0);
}

QStringList NoticeBar::texts() const
{
    QStringList texts;
    for (int i = 0; i < m_layout->count(); ++i) {
        texts << m_layout->itemAt(i)->widget()->accessibleName();
    }
    return texts;
}

} // namespace rankwise::gui

// SPDX-License-Identifier: Apache-2.0
#include "widgets/datasets/thumbnail_delegate.h"

#include <QApplication>
#include <QImage>
#include <QPainter>
#include <QTimer>

#include <algorithm>

namespace rankwise::datasets_view {

namespace {

constexpr int kKept = 2000;        ///< Pictures.
constexpr std::size_t kQueue = 40; ///< Rows that may be in sight; older wishes have been scrolled away.

} // namespace

ThumbnailDelegate::ThumbnailDelegate(bridge::JobRunner& jobs, QObject* parent)
    : QStyledItemDelegate(parent), m_jobs(jobs), m_pictures(kKept)
{
}

void ThumbnailDelegate::setDataset(std::shared_ptr<const bridge::OpenedDataset> dataset)
{
    m_dataset = std::move(dataset);
    m_pictures.clear();
    m_wanted.clear();
    m_failed.clear();
    m_inWork = -1;
}

void ThumbnailDelegate::paint(QPainter* painter, const QStyleOptionViewItem& option, const QModelIndex& index) const
{
    QStyleOptionViewItem item(option);
    initStyleOption(&item, index);
    item.decorationSize = QSize(kHeight * 4 / 3, kHeight);
    item.features |= QStyleOptionViewItem::HasDecoration;
    item.decorationAlignment = Qt::AlignCenter;
    if (const QPixmap* picture = m_pictures.object(index.row())) {
        item.icon = QIcon(*picture);
    } else {
        want(index.row());
    }
    const QStyle* style = item.widget != nullptr ? item.widget->style() : QApplication::style();
    style->drawControl(QStyle::CE_ItemViewItem, &item, painter, item.widget);
}

void ThumbnailDelegate::want(int row) const
{
    if (!m_dataset || row == m_inWork || m_failed.contains(row) || m_dataset->reader->info().cameraKeys().empty()) {
        return;
    }
    std::erase(m_wanted, row);
    m_wanted.push_back(row);
    if (m_wanted.size() > kQueue) {
        m_wanted.erase(m_wanted.begin());
    }
    if (!m_decoding) {
        m_decoding = true;
        auto* self = const_cast<ThumbnailDelegate*>(this);
        QTimer::singleShot(0, self, &ThumbnailDelegate::decodeNext); // after the painting
    }
}

void ThumbnailDelegate::decodeNext()
{
    m_decoding = false;
    if (!m_dataset || m_wanted.empty()) {
        return;
    }
    const int row = m_wanted.back();
    m_wanted.pop_back();
    const auto& episodes = m_dataset->reader->episodes();
    if (row < 0 || static_cast<std::size_t>(row) >= episodes.size()) {
        return;
    }
    const auto& episode = episodes[static_cast<std::size_t>(row)];
    m_decoding = true;
    m_inWork = row;
    m_jobs.start<QImage>(
        QString(),
        [dataset = m_dataset, frame = episode.fromIndex + episode.length / 2](const JobContext&) -> Result<QImage> {
            RW_TRY(const data::ImagePtr image,
                   dataset->reader->image(dataset->reader->info().cameraKeys().front(), frame));
            const QImage::Format format = image->channels == 1 ? QImage::Format_Grayscale8 : QImage::Format_RGB888;
            const QImage picture(image->pixels.data(), image->width, image->height, image->channels * image->width,
                                 format);
            return picture.scaled(2 * kHeight * 4 / 3, 2 * kHeight, Qt::KeepAspectRatio, Qt::SmoothTransformation);
        },
        this,
        [this, row, dataset = m_dataset](const Result<QImage>& picture) {
            m_decoding = false;
            if (dataset == m_dataset) {
                m_inWork = -1;
                if (picture) {
                    m_pictures.insert(row, new QPixmap(QPixmap::fromImage(*picture)));
                    ++m_decoded;
                    Q_EMIT ready();
                } else {
                    m_failed.insert(row); // the player tells why when it is opened
                }
            }
            decodeNext();
        });
}

} // namespace rankwise::datasets_view

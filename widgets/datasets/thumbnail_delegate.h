// Draws a small picture beside an episode's number: one from its middle, decoded when its row comes into sight.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/dataset_session.h"

#include <QCache>
#include <QPixmap>
#include <QStyledItemDelegate>

#include <memory>
#include <set>
#include <vector>

namespace rankwise::datasets_view {

/// Thread: GUI. Memory: 2000 pictures.
class ThumbnailDelegate : public QStyledItemDelegate {
    Q_OBJECT

public:
    static constexpr int kHeight = 36; ///< Pixels.

    explicit ThumbnailDelegate(bridge::JobRunner& jobs, QObject* parent = nullptr);

    void setDataset(std::shared_ptr<const bridge::OpenedDataset> dataset);
    /// Pictures decoded so far.
    [[nodiscard]] int decoded() const { return m_decoded; }

    void paint(QPainter* painter, const QStyleOptionViewItem& option, const QModelIndex& index) const override;

Q_SIGNALS:
    void ready(); ///< One more picture can be drawn.

private:
    void want(int row) const;
    void decodeNext();

    bridge::JobRunner& m_jobs;
    std::shared_ptr<const bridge::OpenedDataset> m_dataset;
    mutable QCache<int, QPixmap> m_pictures;
    mutable std::vector<int> m_wanted; ///< The last one first: what is in sight now.
    std::set<int> m_failed;
    mutable bool m_decoding = false;
    int m_inWork = -1; ///< Row that is being decoded; a repaint does not ask for it again.
    int m_decoded = 0;
};

} // namespace rankwise::datasets_view

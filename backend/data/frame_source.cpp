// Decoded pictures of videos: cache and decoder pool.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/frame_source.h"

#include <utility>

namespace rankwise::data {

ImagePtr FrameCache::find(Key key)
{
    const std::lock_guard lock(m_mutex);
    const auto found = m_entries.find(key);
    if (found == m_entries.end()) {
        return nullptr;
    }
    m_order.splice(m_order.begin(), m_order, found->second);
    ++m_hits;
    return found->second->second;
}

void FrameCache::insert(Key key, ImagePtr image)
{
    const std::size_t size = image->pixels.size() + sizeof(Image);
    const std::lock_guard lock(m_mutex);
    if (size > m_limit || m_entries.contains(key)) {
        return;
    }
    m_order.emplace_front(key, std::move(image));
    m_entries[key] = m_order.begin();
    m_bytes += size;
    while (m_bytes > m_limit) {
        m_bytes -= m_order.back().second->pixels.size() + sizeof(Image);
        m_entries.erase(m_order.back().first);
        m_order.pop_back();
    }
}

std::size_t FrameCache::bytes() const
{
    const std::lock_guard lock(m_mutex);
    return m_bytes;
}

std::uint64_t FrameCache::hits() const
{
    const std::lock_guard lock(m_mutex);
    return m_hits;
}

Result<DecoderPool::Idle> DecoderPool::take(const std::filesystem::path& path, double seconds)
{
    const std::string name = path.string();
    {
        const std::lock_guard lock(m_mutex);
        auto best = m_idle.end();
        for (auto it = m_idle.begin(); it != m_idle.end(); ++it) {
            if (it->path != name) {
                continue;
            }
            const bool before = it->position <= seconds;
            if (best == m_idle.end() || (before && (best->position > seconds || it->position > best->position))) {
                best = it;
            }
        }
        if (best != m_idle.end()) {
            Idle idle = std::move(*best);
            m_idle.erase(best);
            return idle;
        }
    }
    RW_TRY(io::VideoDecoder decoder, io::VideoDecoder::open(path));
    return Idle { name, -1, std::move(decoder) };
}

void DecoderPool::giveBack(Idle idle)
{
    std::list<Idle> closing; // closed outside the lock
    const std::lock_guard lock(m_mutex);
    m_idle.push_front(std::move(idle));
    while (m_idle.size() > m_keep) {
        closing.splice(closing.end(), m_idle, std::prev(m_idle.end()));
    }
}

Result<io::Pixels> DecoderPool::frameAt(const std::filesystem::path& path, double seconds, double fps, double tolerance,
                                        bool gray)
{
    RW_TRY(Idle idle, take(path, seconds));
    const std::uint64_t before = idle.decoder.seeks();
    auto pixels = idle.decoder.frameAt(seconds, fps, tolerance, gray);
    {
        const std::lock_guard lock(m_mutex);
        ++m_decoded;
        m_seeks += idle.decoder.seeks() - before;
    }
    if (pixels) {
        idle.position = seconds;
        giveBack(std::move(idle));
    }
    return pixels;
}

std::uint64_t DecoderPool::decoded() const
{
    const std::lock_guard lock(m_mutex);
    return m_decoded;
}

std::uint64_t DecoderPool::seeks() const
{
    const std::lock_guard lock(m_mutex);
    return m_seeks;
}

} // namespace rankwise::data

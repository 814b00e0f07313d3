// Decoded pictures of videos: a bounded cache shared by all threads, and a pool of open decoders; for the sources of
// backend/data only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/data/dataset_reader.h"
#include "backend/io/video_decoder.h"

#include <cstdint>
#include <filesystem>
#include <list>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace rankwise::data {

/// Least recently used pictures go first. Thread: any.
class FrameCache {
public:
    explicit FrameCache(std::size_t limitBytes) : m_limit(limitBytes) { }

    /// Camera and global frame index in one number.
    using Key = std::uint64_t;
    [[nodiscard]] ImagePtr find(Key key);
    void insert(Key key, ImagePtr image);
    [[nodiscard]] std::size_t bytes() const;
    [[nodiscard]] std::uint64_t hits() const;

private:
    using Entry = std::pair<Key, ImagePtr>;

    const std::size_t m_limit;
    mutable std::mutex m_mutex;
    std::list<Entry> m_order; ///< Most recent first.
    std::unordered_map<Key, std::list<Entry>::iterator> m_entries;
    std::size_t m_bytes = 0;
    std::uint64_t m_hits = 0;
};

/// Decoders that stay open between requests. A decoder is used by one thread at a time; threads that want the same
/// file at the same moment get one each. Thread: any.
class DecoderPool {
public:
    explicit DecoderPool(int keepOpen) : m_keep(static_cast<std::size_t>(std::max(keepOpen, 1))) { }

    /// Decodes the frame shown at `seconds`. Prefers an idle decoder that stands just before it.
    [[nodiscard]] Result<io::Pixels> frameAt(const std::filesystem::path& path, double seconds, double fps,
                                             double tolerance, bool gray);
    [[nodiscard]] std::uint64_t decoded() const;
    [[nodiscard]] std::uint64_t seeks() const;

private:
    struct Idle {
        std::string path;
        double position;
        io::VideoDecoder decoder;
    };
    Result<Idle> take(const std::filesystem::path& path, double seconds);
    void giveBack(Idle idle);

    const std::size_t m_keep;
    mutable std::mutex m_mutex;
    std::list<Idle> m_idle; ///< Most recent first.
    std::uint64_t m_decoded = 0;
    std::uint64_t m_seeks = 0;
};

} // namespace rankwise::data

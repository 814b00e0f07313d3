// A self-contained HTML report: headings, text, tables, figures, commands, embedded pictures and videos.
// Opens without a network; prints; readable without colours.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rankwise::eval {

/// Collects the parts in order; write() makes the file. Thread: one at a time.
class Report {
public:
    explicit Report(std::string title);

    void heading(std::string_view text);
    void paragraph(std::string_view text);
    /// First row are the column titles. Cells that parse as numbers are aligned to the right.
    void table(const std::vector<std::vector<std::string>>& rows);
    /// `svg` is placed as it is; `caption` says what it shows and where the numbers come from.
    void figure(std::string_view svg, std::string_view caption);
    /// Several beside each other, where the page is wide enough, under one caption.
    void figures(const std::vector<std::string>& svgs, std::string_view caption);
    /// Shell commands that reproduce a part.
    void commands(const std::vector<std::string>& lines);
    /// Embeds `bytes` as a data URI, `mime` e.g. "image/png" or "video/mp4".
    void media(std::span<const std::byte> bytes, std::string_view mime, std::string_view caption);

    /// The whole page.
    [[nodiscard]] std::string html() const;
    /// Errors: those of writeFileAtomically().
    [[nodiscard]] Result<void> write(const std::filesystem::path& path) const;

private:
    std::string m_title;
    std::string m_body;
};

/// Standard base64 with padding (RFC 4648).
[[nodiscard]] std::string base64(std::span<const std::byte> bytes);

} // namespace rankwise::eval

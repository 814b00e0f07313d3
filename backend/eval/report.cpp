// SPDX-License-Identifier: Apache-2.0
#include "backend/eval/report.h"

#include "backend/base/file.h"
#include "backend/eval/figure.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

namespace rankwise::eval {

namespace {

constexpr const char* kStyle = R"(
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.7rem}h2{margin-top:2.2rem;border-bottom:1px solid #ccc}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}figure{margin:1.2rem 0}figcaption{color:#555;font-size:.9rem}
svg{max-width:100%;height:auto}.row{display:flex;flex-wrap:wrap;gap:4px}pre{background:#f4f4f4;padding:.7rem;overflow-x:auto}video,img{max-width:100%}
)";

bool looksNumeric(const std::string& cell)
{
    return !cell.empty() && std::any_of(cell.begin(), cell.end(), [](unsigned char c) { return std::isdigit(c) != 0; })
        && std::all_of(cell.begin(), cell.end(), [](unsigned char c) {
               return std::isdigit(c) != 0
                   || std::string_view(" +-.,/%[]()es").find(static_cast<char>(c)) != std::string_view::npos;
           });
}

} // namespace

std::string base64(std::span<const std::byte> bytes)
{
    constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
        unsigned group = 0;
        for (std::size_t k = 0; k < 3; ++k) {
            group = group << 8 | (k < n ? std::to_integer<unsigned>(bytes[i + k]) : 0U);
        }
        for (std::size_t k = 0; k < 4; ++k) {
            out += k <= n ? kAlphabet[group >> (18 - 6 * k) & 63] : '=';
        }
    }
    return out;
}

Report::Report(std::string title) : m_title(std::move(title)) { }

void Report::heading(std::string_view text)
{
    m_body += fmt::format("<h2>{}</h2>\n", escaped(text));
}

void Report::paragraph(std::string_view text)
{
    m_body += fmt::format("<p>{}</p>\n", escaped(text));
}

void Report::table(const std::vector<std::vector<std::string>>& rows)
{
    m_body += "<table>\n";
    for (std::size_t r = 0; r < rows.size(); ++r) {
        m_body += "<tr>";
        for (const std::string& cell : rows[r]) {
            const char* open = r == 0 ? "th" : looksNumeric(cell) ? "td class=\"n\"" : "td";
            m_body += fmt::format("<{}>{}</{}>", open, escaped(cell), r == 0 ? "th" : "td");
        }
        m_body += "</tr>\n";
    }
    m_body += "</table>\n";
}

void Report::figure(std::string_view svg, std::string_view caption)
{
    m_body += fmt::format("<figure>{}<figcaption>{}</figcaption></figure>\n", svg, escaped(caption));
}

void Report::figures(const std::vector<std::string>& svgs, std::string_view caption)
{
    m_body += "<figure><div class=\"row\">";
    for (const std::string& one : svgs) {
        m_body += one;
    }
    m_body += fmt::format("</div><figcaption>{}</figcaption></figure>\n", escaped(caption));
}

void Report::commands(const std::vector<std::string>& lines)
{
    m_body += "<pre>";
    for (const std::string& line : lines) {
        m_body += escaped(line) + "\n";
    }
    m_body += "</pre>\n";
}

void Report::media(std::span<const std::byte> bytes, std::string_view mime, std::string_view caption)
{
    const std::string uri = fmt::format("data:{};base64,{}", mime, base64(bytes));
    const std::string element = mime.starts_with("video/")
        ? fmt::format("<video controls loop muted src=\"{}\"></video>", uri)
        : fmt::format("<img alt=\"{}\" src=\"{}\">", escaped(caption), uri);
    m_body += fmt::format("<figure>{}<figcaption>{}</figcaption></figure>\n", element, escaped(caption));
}

std::string Report::html() const
{
    return fmt::format(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width\"><title>{0}</title><style>{1}</style></head>\n<body><h1>{0}</h1>\n{2}"
        "</body></html>\n",
        escaped(m_title), kStyle, m_body);
}

Result<void> Report::write(const std::filesystem::path& path) const
{
    return writeFileAtomically(path, html());
}

} // namespace rankwise::eval

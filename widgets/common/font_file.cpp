// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/font_file.h"

#include <QRawFont>
#include <QtEndian>

#include <array>
#include <vector>

namespace rankwise::common {

namespace {

void append16(QByteArray& to, quint16 value)
{
    const quint16 big = qToBigEndian(value);
    to.append(reinterpret_cast<const char*>(&big), 2);
}

void append32(QByteArray& to, quint32 value)
{
    const quint32 big = qToBigEndian(value);
    to.append(reinterpret_cast<const char*>(&big), 4);
}

quint32 checksum(const QByteArray& padded)
{
    quint32 sum = 0;
    for (qsizetype i = 0; i + 4 <= padded.size(); i += 4) {
        sum += qFromBigEndian<quint32>(padded.constData() + i);
    }
    return sum;
}

} // namespace

QByteArray trueTypeFile(const QFont& font)
{
    // Sorted, as the directory must be.
    static constexpr std::array kTables { "CFF ", "OS/2", "cmap", "cvt ", "fpgm", "glyf", "head",
                                          "hhea", "hmtx", "loca", "maxp", "name", "post", "prep" };
    const QRawFont raw = QRawFont::fromFont(font);
    std::vector<std::pair<const char*, QByteArray>> tables;
    bool outlines = false;
    for (const char* tag : kTables) {
        QByteArray table = raw.fontTable(tag);
        if (!table.isEmpty()) {
            outlines = outlines || qstrcmp(tag, "glyf") == 0 || qstrcmp(tag, "CFF ") == 0;
            tables.emplace_back(tag, std::move(table));
        }
    }
    if (!outlines) {
        return {};
    }
    const auto count = static_cast<quint16>(tables.size());
    quint16 power = 1;
    quint16 log2 = 0;
    while (power * 2 <= count) {
        power = static_cast<quint16>(power * 2);
        ++log2;
    }
    QByteArray file;
    append32(file, qstrcmp(tables.front().first, "CFF ") == 0 ? 0x4f54544fu : 0x00010000u);
    append16(file, count);
    append16(file, static_cast<quint16>(power * 16));
    append16(file, log2);
    append16(file, static_cast<quint16>((count - power) * 16));
    auto offset = static_cast<quint32>(12 + 16 * tables.size());
    QByteArray body;
    for (const auto& [tag, table] : tables) {
        QByteArray padded = table;
        padded.append((4 - padded.size() % 4) % 4, '\0');
        file.append(tag, 4);
        append32(file, checksum(padded));
        append32(file, offset);
        append32(file, static_cast<quint32>(table.size()));
        offset += static_cast<quint32>(padded.size());
        body += padded;
    }
    return file + body;
}

} // namespace rankwise::common

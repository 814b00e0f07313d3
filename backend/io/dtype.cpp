// One table row an element type.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/dtype.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace rankwise::io {

namespace {

enum class Kind : std::uint8_t { Bool, Integer, Floating };

struct Row {
    std::string_view name;
    std::uint64_t bits;
    Kind kind;
};

constexpr std::array<Row, kDtypeCount> kRows { {
    { "BOOL", 8, Kind::Bool },
    { "F4", 4, Kind::Floating },
    { "F6_E2M3", 6, Kind::Floating },
    { "F6_E3M2", 6, Kind::Floating },
    { "U8", 8, Kind::Integer },
    { "I8", 8, Kind::Integer },
    { "F8_E5M2", 8, Kind::Floating },
    { "F8_E4M3", 8, Kind::Floating },
    { "F8_E8M0", 8, Kind::Floating },
    { "F8_E4M3FNUZ", 8, Kind::Floating },
    { "F8_E5M2FNUZ", 8, Kind::Floating },
    { "I16", 16, Kind::Integer },
    { "U16", 16, Kind::Integer },
    { "F16", 16, Kind::Floating },
    { "BF16", 16, Kind::Floating },
    { "I32", 32, Kind::Integer },
    { "U32", 32, Kind::Integer },
    { "F32", 32, Kind::Floating },
    { "C64", 64, Kind::Floating },
    { "F64", 64, Kind::Floating },
    { "I64", 64, Kind::Integer },
    { "U64", 64, Kind::Integer },
} };

const Row& rowOf(Dtype dtype)
{
    return kRows.at(static_cast<std::size_t>(dtype));
}

} // namespace

std::string_view dtypeName(Dtype dtype)
{
    return rowOf(dtype).name;
}

std::optional<Dtype> dtypeFromName(std::string_view name)
{
    const auto row = std::find_if(kRows.begin(), kRows.end(), [name](const Row& r) { return r.name == name; });
    if (row == kRows.end()) {
        return std::nullopt;
    }
    return static_cast<Dtype>(row - kRows.begin());
}

std::uint64_t dtypeBits(Dtype dtype)
{
    return rowOf(dtype).bits;
}

bool isSubByte(Dtype dtype)
{
    return rowOf(dtype).bits < 8;
}

bool isFloating(Dtype dtype)
{
    return rowOf(dtype).kind == Kind::Floating;
}

bool isInteger(Dtype dtype)
{
    return rowOf(dtype).kind == Kind::Integer;
}

} // namespace rankwise::io

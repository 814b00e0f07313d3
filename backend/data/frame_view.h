// One frame as a recorder hands it over: values by feature name, in borrowed memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/data/dataset_info.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace rankwise::data {

struct Column;

/// One frame, borrowed: the memory must live until addFrame() returns. Values are converted to the feature's type when
/// that loses nothing but float precision.
class FrameView {
public:
    FrameView& floats(std::string_view key, std::span<const float> values);
    FrameView& doubles(std::string_view key, std::span<const double> values);
    FrameView& integers(std::string_view key, std::span<const std::int64_t> values);
    FrameView& number(std::string_view key, double value);
    FrameView& integer(std::string_view key, std::int64_t value);
    FrameView& boolean(std::string_view key, bool value);
    FrameView& text(std::string_view key, std::string_view value);
    /// [H, W, C] uint8.
    FrameView& image(std::string_view key, std::span<const std::uint8_t> pixels);
    /// Any numeric feature in its own type.
    FrameView& raw(std::string_view key, std::span<const std::byte> bytes);
    /// Instruction of this frame where it differs from the episode's.
    FrameView& task(std::string_view text);
    void clear();

    struct Value {
        enum class Kind : std::uint8_t { Floats, Doubles, Integers, Double, Integer, Bool, Text, Pixels, Raw };
        std::string_view key;
        Kind kind = Kind::Raw;
        std::span<const std::byte> bytes;
        double real = 0;
        std::int64_t integer = 0;
    };
    [[nodiscard]] std::span<const Value> values() const { return m_values; }
    [[nodiscard]] std::string_view taskText() const { return m_task; }

private:
    std::vector<Value> m_values;
    std::string_view m_task;
};

/// Appends the elements of one value to a column of `feature`, converted where that loses nothing but precision.
/// Errors: FieldInvalid (does not fit, or of another kind), ShapeMismatch. The column is unchanged then.
[[nodiscard]] Result<void> appendValue(const Feature& feature, const FrameView::Value& value, Column& column);

} // namespace rankwise::data

// Arrow arrays to plain values; for the sources of backend/data only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/data/dataset_reader.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace arrow {
class Array;
class ChunkedArray;
class Schema;
class Table;
} // namespace arrow

namespace rankwise::data {

/// Appends every row of `array` to `column` as elements of the column's type. Each row must hold exactly
/// column.width elements, however they are nested, and no null.
/// Errors: ShapeMismatch (another number of elements), DataInvalid (null, or a type that is no number or text).
[[nodiscard]] Result<void> appendColumn(const arrow::ChunkedArray& array, Column& column, const std::string& subject);

/// A whole column of whole numbers. Errors: as appendColumn().
[[nodiscard]] Result<std::vector<std::int64_t>> integersOf(const arrow::Table& table, const std::string& name,
                                                           const std::string& subject);
[[nodiscard]] Result<std::vector<double>> doublesOf(const arrow::Table& table, const std::string& name,
                                                    const std::string& subject);
[[nodiscard]] Result<std::vector<std::string>> textsOf(const arrow::Table& table, const std::string& name,
                                                       const std::string& subject);
/// A column of lists of texts.
[[nodiscard]] Result<std::vector<std::vector<std::string>>>
textListsOf(const arrow::Table& table, const std::string& name, const std::string& subject);

/// The numbers of one cell, nested lists flattened; `depth` is how deep they were. Empty for null and other types.
[[nodiscard]] std::vector<double> cellNumbers(const arrow::ChunkedArray& array, std::int64_t row, int& depth);

/// One scalar cell as JSON text ("null" where it is null or of another kind).
[[nodiscard]] std::string cellJson(const arrow::ChunkedArray& array, std::int64_t row);

/// The bytes of a cell of an image column: struct{bytes, path} or a bare binary.
/// Errors: DataInvalid (null, no bytes).
[[nodiscard]] Result<std::vector<std::byte>> cellBytes(const arrow::ChunkedArray& array, std::int64_t row,
                                                       const std::string& subject);

/// IEEE half precision.
[[nodiscard]] float halfToFloat(std::uint16_t half);
[[nodiscard]] std::uint16_t floatToHalf(float value);

} // namespace rankwise::data

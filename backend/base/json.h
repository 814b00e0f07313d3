// JSON from outside: strict parsing with limits, and fields read with type, range and a
// message that names the file and the field.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace rankwise {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

struct JsonLimits {
    std::size_t maxDepth = 128;
    std::uint64_t maxBytes = 256u << 20;
};

/// Parses RFC 8259 JSON: UTF-8 only, no NaN or Infinity, no comments, no trailing text, no key twice in an object.
///
/// `subject` (normally the path) goes into the error. The ordered variant keeps the order of keys.
/// Errors: JsonInvalid with the byte offset, TooLarge. Thread: any.
[[nodiscard]] Result<Json> parseJson(std::string_view text, const std::string& subject, const JsonLimits& limits = {});
[[nodiscard]] Result<OrderedJson> parseOrderedJson(std::string_view text, const std::string& subject,
                                                   const JsonLimits& limits = {});

/// readFile() then parse. Errors: those of both.
[[nodiscard]] Result<Json> readJsonFile(const std::filesystem::path& path, const JsonLimits& limits = {});
[[nodiscard]] Result<OrderedJson> readOrderedJsonFile(const std::filesystem::path& path, const JsonLimits& limits = {});

/// Indented by two spaces, a newline at the end. Strings that are not UTF-8 get replacement characters.
[[nodiscard]] std::string jsonText(const Json& value);
[[nodiscard]] std::string jsonText(const OrderedJson& value);

/// Reads the fields of one JSON object. The first thing that is wrong is kept and returned by result();
/// later reads are no-ops then, so a caller reads everything and asks once.
///
///     FieldReader reader(json, "config.json");
///     reader.require("chunk_size", config.chunkSize, 1, 10'000);
///     reader.optional("num_steps", config.numSteps, 1, 1'000);
///     RW_TRY_VOID(reader.result());
///
/// `optional` leaves the value as it is when the key is absent or null.
class FieldReader {
public:
    /// `object` must outlive the reader. `path` prefixes field names, e.g. "text_config.".
    FieldReader(const Json& object, std::string file, std::string path = {});

    void require(std::string_view key, std::int64_t& value, std::int64_t low = std::numeric_limits<std::int64_t>::min(),
                 std::int64_t high = std::numeric_limits<std::int64_t>::max());
    void optional(std::string_view key, std::int64_t& value,
                  std::int64_t low = std::numeric_limits<std::int64_t>::min(),
                  std::int64_t high = std::numeric_limits<std::int64_t>::max());
    void require(std::string_view key, double& value, double low = std::numeric_limits<double>::lowest(),
                 double high = std::numeric_limits<double>::max());
    void optional(std::string_view key, double& value, double low = std::numeric_limits<double>::lowest(),
                  double high = std::numeric_limits<double>::max());
    void require(std::string_view key, bool& value);
    void optional(std::string_view key, bool& value);
    void require(std::string_view key, std::string& value);
    void optional(std::string_view key, std::string& value);
    void require(std::string_view key, std::vector<std::int64_t>& value, std::int64_t low, std::int64_t high);
    void optional(std::string_view key, std::vector<std::int64_t>& value, std::int64_t low, std::int64_t high);
    void require(std::string_view key, std::vector<double>& value);
    void optional(std::string_view key, std::vector<double>& value);
    void require(std::string_view key, std::vector<std::string>& value);
    void optional(std::string_view key, std::vector<std::string>& value);

    /// The value of `key`, or nullptr when absent or null. Marks the key as known.
    const Json* find(std::string_view key);
    /// As find(), and an absent key or another type than `object` is an error.
    const Json* requireObject(std::string_view key);

    /// Records an error of the caller's own at `key`, unless one is there already.
    void reject(std::string_view key, std::string message, Errc code = Errc::FieldInvalid);

    /// Takes over the error of a reader of a nested object.
    void merge(const FieldReader& nested);

    [[nodiscard]] bool ok() const { return !m_error; }
    [[nodiscard]] Result<void> result() const;
    /// Keys of the object that no read asked for, sorted.
    [[nodiscard]] std::vector<std::string> unknownKeys() const;
    [[nodiscard]] std::string fieldPath(std::string_view key) const;

private:
    template <class T, class Convert>
    void read(std::string_view key, T& value, bool required, const char* expected, const Convert& convert);

    const Json& m_object;
    std::string m_file;
    std::string m_path;
    std::set<std::string, std::less<>> m_known;
    std::optional<Error> m_error;
};

}  // namespace rankwise

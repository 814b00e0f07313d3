// Strict parser on nlohmann's SAX interface, and typed field reading.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/json.h"

#include "backend/base/file.h"

#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise {

namespace {

/// Builds a value and refuses what nlohmann lets pass: deep nesting and repeated keys.
template <class Value> class StrictHandler {
public:
    StrictHandler(Value& root, const JsonLimits& limits) : m_builder(root, false), m_limits(limits) { }

    bool null() { return m_builder.null(); }
    bool boolean(bool v) { return m_builder.boolean(v); }
    bool number_integer(typename Value::number_integer_t v) { return m_builder.number_integer(v); }
    bool number_unsigned(typename Value::number_unsigned_t v) { return m_builder.number_unsigned(v); }
    bool number_float(typename Value::number_float_t v, const std::string& text)
    {
        return std::isfinite(v) ? m_builder.number_float(v, text) : refuse("the number " + text + " overflows");
    }
    bool string(std::string& v) { return m_builder.string(v); }
    bool binary(typename Value::binary_t& v) { return m_builder.binary(v); }
    bool start_object(std::size_t n)
    {
        m_keys.emplace_back();
        return deeper() && m_builder.start_object(n);
    }
    bool key(std::string& name)
    {
        if (!m_keys.back().insert(name).second) {
            return refuse("the key \"" + name + "\" occurs twice in one object");
        }
        return m_builder.key(name);
    }
    bool end_object()
    {
        m_keys.pop_back();
        --m_depth;
        return m_builder.end_object();
    }
    bool start_array(std::size_t n) { return deeper() && m_builder.start_array(n); }
    bool end_array()
    {
        --m_depth;
        return m_builder.end_array();
    }
    bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& exception)
    {
        m_offset = static_cast<std::int64_t>(position);
        const std::string what = exception.what();  // "[json.exception...] parse error at line 1, column 2: ..."
        const std::size_t bracket = what.find("] ");
        return refuse(bracket == std::string::npos ? what : what.substr(bracket + 2));
    }

    [[nodiscard]] const std::string& problem() const { return m_problem; }
    [[nodiscard]] std::int64_t offset() const { return m_offset; }

private:
    bool deeper()
    {
        return ++m_depth <= m_limits.maxDepth
            || refuse("values are nested deeper than " + std::to_string(m_limits.maxDepth) + " levels");
    }
    bool refuse(std::string problem)
    {
        m_problem = std::move(problem);
        return false;
    }

    nlohmann::detail::json_sax_dom_parser<Value> m_builder;
    JsonLimits m_limits;
    std::size_t m_depth = 0;
    std::vector<std::set<std::string>> m_keys;
    std::string m_problem;
    std::int64_t m_offset = -1;
};

template <class Value>
Result<Value> parseStrictly(std::string_view text, const std::string& subject, const JsonLimits& limits)
{
    if (text.size() > limits.maxBytes) {
        return fail(Errc::TooLarge, fmt::format("JSON of {} bytes, at most {} are read", text.size(), limits.maxBytes),
                    subject);
    }
    if (text.empty()) {
        return fail(Errc::JsonInvalid, "is empty; a JSON value is expected", subject, 0);
    }
    // The lexer takes a NUL for the end of the text and would not see what follows it.
    if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
        return fail(Errc::JsonInvalid, "is not valid JSON: it holds a NUL byte", subject, static_cast<std::int64_t>(nul));
    }
    Value root;
    StrictHandler<Value> handler(root, limits);
    if (!Value::sax_parse(text.begin(), text.end(), &handler)) {
        return fail(Errc::JsonInvalid, "is not valid JSON: " + handler.problem(), subject, handler.offset());
    }
    return root;
}

}  // namespace

Result<Json> parseJson(std::string_view text, const std::string& subject, const JsonLimits& limits)
{
    return parseStrictly<Json>(text, subject, limits);
}

Result<OrderedJson> parseOrderedJson(std::string_view text, const std::string& subject, const JsonLimits& limits)
{
    return parseStrictly<OrderedJson>(text, subject, limits);
}

Result<Json> readJsonFile(const std::filesystem::path& path, const JsonLimits& limits)
{
    RW_TRY(const std::string text, readFile(path, limits.maxBytes));
    return parseJson(text, path.string(), limits);
}

Result<OrderedJson> readOrderedJsonFile(const std::filesystem::path& path, const JsonLimits& limits)
{
    RW_TRY(const std::string text, readFile(path, limits.maxBytes));
    return parseOrderedJson(text, path.string(), limits);
}

std::string jsonText(const Json& value) { return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

std::string jsonText(const OrderedJson& value)
{
    return value.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

FieldReader::FieldReader(const Json& object, std::string file, std::string path)
    : m_object(object), m_file(std::move(file)), m_path(std::move(path))
{
    if (!m_object.is_object()) {
        m_error = Error { Errc::FieldInvalid,
                          fmt::format("{} must be a JSON object, not {}",
                                      m_path.empty() ? "the top level" : m_path.substr(0, m_path.size() - 1),
                                      m_object.type_name()),
                          m_file };
    }
}

std::string FieldReader::fieldPath(std::string_view key) const { return m_path + std::string(key); }

void FieldReader::reject(std::string_view key, std::string message, Errc code)
{
    if (!m_error) {
        m_error = Error { code, fmt::format("field \"{}\" {}", fieldPath(key), message), m_file };
    }
}

void FieldReader::merge(const FieldReader& nested)
{
    if (!m_error) {
        m_error = nested.m_error;
    }
}

Result<void> FieldReader::result() const
{
    if (m_error) {
        return tl::unexpected<Error>(*m_error);
    }
    return {};
}

const Json* FieldReader::find(std::string_view key)
{
    m_known.emplace(key);
    if (m_error) {
        return nullptr;
    }
    const auto found = m_object.find(key);
    return found == m_object.end() || found->is_null() ? nullptr : &*found;
}

const Json* FieldReader::requireObject(std::string_view key)
{
    const Json* value = find(key);
    if (value == nullptr) {
        reject(key, "is missing; an object is expected", Errc::FieldMissing);
    } else if (!value->is_object()) {
        reject(key, fmt::format("must be an object, not {}", value->type_name()));
        value = nullptr;
    }
    return value;
}

std::vector<std::string> FieldReader::unknownKeys() const
{
    std::vector<std::string> unknown;
    if (m_object.is_object()) {
        for (const auto& [key, value] : m_object.items()) {
            if (!m_known.contains(key)) {
                unknown.push_back(key);
            }
        }
    }
    return unknown;
}

/// `convert(json) -> std::optional<T>`: nothing when the type or range is wrong.
template <class T, class Convert>
void FieldReader::read(std::string_view key, T& value, bool required, const char* expected, const Convert& convert)
{
    const Json* json = find(key);
    if (json == nullptr) {
        if (required) {
            reject(key, fmt::format("is missing; {} is expected", expected), Errc::FieldMissing);
        }
        return;
    }
    if (std::optional<T> converted = convert(*json)) {
        value = std::move(*converted);
        return;
    }
    std::string shown = json->dump(-1, ' ', false, Json::error_handler_t::replace);
    if (shown.size() > 60) {
        shown = shown.substr(0, 57) + "...";
    }
    reject(key, fmt::format("is {}; {} is expected", shown, expected));
}

namespace {

std::optional<std::int64_t> toInteger(const Json& json, std::int64_t low, std::int64_t high)
{
    if (!json.is_number_integer()
        || (json.is_number_unsigned()
            && json.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))) {
        return std::nullopt;
    }
    const auto number = json.get<std::int64_t>();
    return number < low || number > high ? std::nullopt : std::optional(number);
}

std::optional<double> toDouble(const Json& json, double low, double high)
{
    if (!json.is_number()) {
        return std::nullopt;
    }
    const auto number = json.get<double>();
    return number < low || number > high ? std::nullopt : std::optional(number);
}

std::optional<std::string> toString(const Json& json)
{
    return json.is_string() ? std::optional(json.get<std::string>()) : std::nullopt;
}

template <class T, class Convert> std::optional<std::vector<T>> toVector(const Json& json, const Convert& convert)
{
    if (!json.is_array()) {
        return std::nullopt;
    }
    std::vector<T> values;
    values.reserve(json.size());
    for (const Json& item : json) {
        const std::optional<T> value = convert(item);
        if (!value) {
            return std::nullopt;
        }
        values.push_back(*value);
    }
    return values;
}

std::string integerRange(std::int64_t low, std::int64_t high, const char* what)
{
    constexpr auto kLow = std::numeric_limits<std::int64_t>::min();
    constexpr auto kHigh = std::numeric_limits<std::int64_t>::max();
    if (low == kLow && high == kHigh) {
        return what;
    }
    if (high == kHigh) {
        return fmt::format("{} of at least {}", what, low);
    }
    return fmt::format("{} in [{}, {}]", what, low, high);
}

std::string realRange(double low, double high)
{
    constexpr auto kLow = std::numeric_limits<double>::lowest();
    constexpr auto kHigh = std::numeric_limits<double>::max();
    if (low == kLow && high == kHigh) {
        return "a number";
    }
    return high == kHigh ? fmt::format("a number of at least {}", low) : fmt::format("a number in [{}, {}]", low, high);
}

}  // namespace

#define RW_FIELD_PAIR(Type, Params, expectedText, convertExpr)                                                        \
    void FieldReader::require Params                                                                                  \
    {                                                                                                                 \
        read<Type>(key, value, true, std::string(expectedText).c_str(), [&](const Json& json) { return convertExpr; }); \
    }                                                                                                                 \
    void FieldReader::optional Params                                                                                 \
    {                                                                                                                 \
        read<Type>(key, value, false, std::string(expectedText).c_str(), [&](const Json& json) { return convertExpr; }); \
    }

RW_FIELD_PAIR(std::int64_t, (std::string_view key, std::int64_t& value, std::int64_t low, std::int64_t high),
              integerRange(low, high, "an integer"), toInteger(json, low, high))
RW_FIELD_PAIR(double, (std::string_view key, double& value, double low, double high), realRange(low, high),
              toDouble(json, low, high))
RW_FIELD_PAIR(bool, (std::string_view key, bool& value), "true or false",
              json.is_boolean() ? std::optional(json.get<bool>()) : std::nullopt)
RW_FIELD_PAIR(std::string, (std::string_view key, std::string& value), "a string", toString(json))
RW_FIELD_PAIR(std::vector<std::int64_t>,
              (std::string_view key, std::vector<std::int64_t>& value, std::int64_t low, std::int64_t high),
              integerRange(low, high, "a list of integers"),
              toVector<std::int64_t>(json, [&](const Json& item) { return toInteger(item, low, high); }))
RW_FIELD_PAIR(std::vector<double>, (std::string_view key, std::vector<double>& value), "a list of numbers",
              toVector<double>(json, [](const Json& item) {
                  return toDouble(item, std::numeric_limits<double>::lowest(), std::numeric_limits<double>::max());
              }))
RW_FIELD_PAIR(std::vector<std::string>, (std::string_view key, std::vector<std::string>& value), "a list of strings",
              toVector<std::string>(json, toString))

#undef RW_FIELD_PAIR

}  // namespace rankwise

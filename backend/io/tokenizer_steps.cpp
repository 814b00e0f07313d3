// What the builders of the tokenizers' steps share.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/tokenizer_steps.h"

#include "backend/io/tokenizer_regex.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::io::tokenizer {

Result<std::string> stepType(const Json& object, const StepSource& source)
{
    if (!object.is_object()) {
        return fail(Errc::FieldInvalid, fmt::format("{} must be an object", source.path), source.file);
    }
    std::string type;
    FieldReader reader(object, source.file, source.path + ".");
    reader.require("type", type);
    RW_TRY_VOID(reader.result());
    return type;
}

Result<std::vector<const Json*>> stepList(const Json& object, const char* key, const StepSource& source)
{
    FieldReader reader(object, source.file, source.path + ".");
    const Json* list = reader.find(key);
    if (list == nullptr || !list->is_array()) {
        return fail(list == nullptr ? Errc::FieldMissing : Errc::FieldInvalid,
                    fmt::format("{}.{} must be an array", source.path, key), source.file);
    }
    std::vector<const Json*> steps;
    for (const Json& step : *list) {
        steps.push_back(&step);
    }
    return steps;
}

StepSource elementSource(const StepSource& source, const char* key, std::size_t index)
{
    return { source.file, fmt::format("{}.{}[{}]", source.path, key, index), source.warnings };
}

Result<Pattern> makePattern(const Json& object, const StepSource& source)
{
    FieldReader reader(object, source.file, source.path + ".");
    const Json* choice = reader.requireObject("pattern");
    RW_TRY_VOID(reader.result());
    std::string literal;
    std::string expression;
    FieldReader kinds(*choice, source.file, source.path + ".pattern.");
    const bool isLiteral = kinds.find("String") != nullptr;
    const bool isRegex = kinds.find("Regex") != nullptr;
    kinds.optional("String", literal);
    kinds.optional("Regex", expression);
    RW_TRY_VOID(kinds.result());
    if (isLiteral && !isRegex) {
        return Pattern::literal(std::move(literal));
    }
    if (isRegex && !isLiteral) {
        auto pattern = Pattern::regex(expression);
        if (!pattern) {
            return fail(pattern.error().code, fmt::format("{}.pattern: {}", source.path, pattern.error().message),
                        source.file);
        }
        if (pattern->mayBacktrackExponentially()) {
            source.warnings.push_back({ fmt::format("{}.pattern: the regular expression \"{}\" can take exponential "
                                                    "time; matching is stopped at a limit",
                                                    source.path, expression),
                                        source.file });
        }
        return pattern;
    }
    return fail(Errc::FieldInvalid,
                fmt::format("{}.pattern must be {{\"String\": ...}} or {{\"Regex\": ...}}", source.path), source.file);
}

} // namespace rankwise::io::tokenizer

// Reading tokenizer.json, SentencePiece models and the configuration files beside them.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/base/json.h"
#include "backend/io/tokenizer_data.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::io {

namespace fs = std::filesystem;
using tokenizer::AddedToken;
using tokenizer::StepSource;

namespace {

constexpr std::uint64_t kMaxJsonBytes = 512u << 20;
constexpr std::uint64_t kMaxModelBytes = 256u << 20;
constexpr std::int64_t kMaxLength = std::int64_t { 1 } << 40;

Result<Side> readSide(const std::string& name, const std::string& field, const std::string& file)
{
    if (name == "Left" || name == "left") {
        return Side::Left;
    }
    if (name == "Right" || name == "right") {
        return Side::Right;
    }
    return fail(Errc::FieldInvalid, fmt::format("{} must be left or right, not \"{}\"", field, name), file);
}

/// The value of a token field: a string, or an object with "content".
std::optional<std::string> tokenText(const Json& value)
{
    if (value.is_string()) {
        return value.get<std::string>();
    }
    if (value.is_object() && value.contains("content") && value["content"].is_string()) {
        return value["content"].get<std::string>();
    }
    return std::nullopt;
}

AddedToken specialToken(std::string content)
{
    AddedToken token;
    token.content = std::move(content);
    token.special = true;
    return token;
}

Result<AddedToken> readAddedToken(const Json& object, const StepSource& source, bool withId)
{
    AddedToken token;
    FieldReader reader(object, source.file, source.path + ".");
    if (withId) {
        reader.require("id", token.id, 0, std::numeric_limits<std::uint32_t>::max());
    }
    reader.require("content", token.content);
    reader.optional("single_word", token.singleWord);
    reader.optional("lstrip", token.stripLeft);
    reader.optional("rstrip", token.stripRight);
    reader.optional("special", token.special);
    token.normalized = !token.special;
    reader.optional("normalized", token.normalized);
    RW_TRY_VOID(reader.result());
    return token;
}

} // namespace

/// Puts a tokenizer together from its files.
class TokenizerBuilder {
public:
    TokenizerBuilder(std::string file, std::vector<Warning>& warnings)
        : m_file(std::move(file)), m_warnings(warnings), m_data(std::make_shared<Tokenizer::Data>())
    {
    }

    Result<void> readTokenizerJson(std::string_view text);
    Result<void> readSentencePiece(std::string_view bytes);
    Result<void> applyFolder(const fs::path& folder);
    Result<Tokenizer> finish();

private:
    StepSource source(std::string path) { return { m_file, std::move(path), m_warnings }; }
    void warn(std::string message) { m_warnings.push_back({ std::move(message), m_file }); }

    Result<void> readAddedTokens(const Json& list);
    Result<void> readTruncation(const Json& object);
    Result<void> readPadding(const Json& object);
    Result<void> readPostProcessor(const Json& object, const std::string& path);
    Result<void> readTemplate(const Json& object, const std::string& path);
    Result<TemplatePiece> readTemplatePiece(const Json& piece, const Json& specials, const std::string& path);
    Result<void> readClassTemplate(const Json& object, const std::string& path);
    void wrap(const std::vector<TemplatePiece>& outer);

    Result<void> applyConfig(const Json& config, const std::string& file);
    Result<void> applyAddedTokensDecoder(const Json& tokens, const std::string& file);
    Result<void> applyAddedTokensMap(const Json& tokens, const std::string& file);
    void applyRoles(const Json& config);
    Result<void> applyBosEos(const Json& config, const std::string& file);
    std::optional<TokenId> idOf(std::string_view token) const;
    void addToken(AddedToken token, std::optional<TokenId> wantedId);

    std::string m_file;
    std::vector<Warning>& m_warnings;
    std::shared_ptr<Tokenizer::Data> m_data;
    std::set<std::string> m_newTokens; ///< Added tokens that the model does not have.
};

std::optional<TokenId> TokenizerBuilder::idOf(std::string_view token) const
{
    if (const auto* added = m_data->added.find(token)) {
        return added->id;
    }
    return m_data->modelTokenToId(token);
}

/// A token of the model keeps its id; a new one gets the wanted id from SentencePiece's files, where ids are
/// explicit, and the next free one from a tokenizer.json, as the reference does.
void TokenizerBuilder::addToken(AddedToken token, std::optional<TokenId> wantedId)
{
    if (token.content.empty()) {
        return;
    }
    const auto known = idOf(token.content);
    if (known) {
        token.id = *known;
    } else if (m_data->sentencePiece && wantedId) {
        token.id = *wantedId;
    } else {
        token.id = m_data->added.nextId(m_data->modelVocabSize());
    }
    if (wantedId && *wantedId != token.id) {
        warn(fmt::format("the added token \"{}\" says id {}, but gets {}", token.content, *wantedId, token.id));
    }
    if (!known) {
        m_newTokens.insert(token.content);
    }
    m_data->added.add(std::move(token));
}

Result<void> TokenizerBuilder::readTokenizerJson(std::string_view text)
{
    RW_TRY(const Json root, parseJson(text, m_file, { .maxBytes = kMaxJsonBytes }));
    if (!root.is_object()) {
        return fail(Errc::FieldInvalid, "a tokenizer.json must be an object", m_file);
    }
    FieldReader reader(root, m_file);
    const Json* model = reader.requireObject("model");
    RW_TRY_VOID(reader.result());
    std::string type = model->contains("merges") ? "BPE" : ""; // Old files do not say it.
    FieldReader modelReader(*model, m_file, "model.");
    modelReader.optional("type", type);
    RW_TRY_VOID(modelReader.result());
    if (type != "BPE") {
        return fail(Errc::Unsupported, fmt::format("model.type is \"{}\"; only BPE tokenizers are supported", type),
                    m_file);
    }
    RW_TRY(m_data->bpe, tokenizer::BpeModel::fromJson(*model, source("model")));

    if (const Json* object = reader.find("normalizer")) {
        RW_TRY(m_data->normalizer, tokenizer::makeNormalizer(*object, source("normalizer")));
    }
    if (const Json* object = reader.find("pre_tokenizer")) {
        RW_TRY(m_data->preTokenizer, tokenizer::makePreTokenizer(*object, source("pre_tokenizer")));
    }
    if (const Json* object = reader.find("decoder")) {
        RW_TRY(m_data->decoder, tokenizer::makeDecoder(*object, source("decoder")));
    }
    if (const Json* list = reader.find("added_tokens")) {
        RW_TRY_VOID(readAddedTokens(*list));
    }
    if (const Json* object = reader.find("post_processor")) {
        RW_TRY_VOID(readPostProcessor(*object, "post_processor"));
    }
    if (const Json* object = reader.find("truncation")) {
        RW_TRY_VOID(readTruncation(*object));
    }
    if (const Json* object = reader.find("padding")) {
        RW_TRY_VOID(readPadding(*object));
    }
    if (const auto& unknown = m_data->bpe->unknownToken()) {
        m_data->special.unk = m_data->modelTokenToId(*unknown);
    }
    return {};
}

Result<void> TokenizerBuilder::readAddedTokens(const Json& list)
{
    if (!list.is_array()) {
        return fail(Errc::FieldInvalid, "added_tokens must be an array", m_file);
    }
    for (std::size_t i = 0; i < list.size(); ++i) {
        const auto at = source(fmt::format("added_tokens[{}]", i));
        if (!list[i].is_object()) {
            return fail(Errc::FieldInvalid, fmt::format("{} must be an object", at.path), m_file);
        }
        RW_TRY(AddedToken token, readAddedToken(list[i], at, true));
        const TokenId id = token.id;
        addToken(std::move(token), id);
    }
    return {};
}

Result<void> TokenizerBuilder::readTruncation(const Json& object)
{
    if (!object.is_object()) {
        return fail(Errc::FieldInvalid, "truncation must be an object or null", m_file);
    }
    std::string direction = "Right";
    std::int64_t stride = 0;
    FieldReader reader(object, m_file, "truncation.");
    reader.require("max_length", m_data->fileOptions.maxLength, 0, kMaxLength);
    reader.optional("direction", direction);
    reader.optional("stride", stride, 0, kMaxLength);
    RW_TRY_VOID(reader.result());
    RW_TRY(m_data->truncationSide, readSide(direction, "truncation.direction", m_file));
    return {};
}

Result<void> TokenizerBuilder::readPadding(const Json& object)
{
    if (!object.is_object()) {
        return fail(Errc::FieldInvalid, "padding must be an object or null", m_file);
    }
    std::string direction = "Right";
    TokenId padId = 0;
    FieldReader reader(object, m_file, "padding.");
    reader.optional("direction", direction);
    reader.optional("pad_id", padId, 0, std::numeric_limits<std::uint32_t>::max());
    reader.optional("pad_to_multiple_of", m_data->fileOptions.padToMultipleOf, 0, kMaxLength);
    if (const Json* strategy = reader.find("strategy"); strategy != nullptr && strategy->is_object()) {
        FieldReader fixed(*strategy, m_file, "padding.strategy.");
        fixed.require("Fixed", m_data->fileOptions.padTo, 0, kMaxLength);
        reader.merge(fixed);
    }
    RW_TRY_VOID(reader.result());
    m_data->special.pad = padId;
    RW_TRY(m_data->paddingSide, readSide(direction, "padding.direction", m_file));
    return {};
}

/// Replaces the text of `outer` by what stands around the text now.
void TokenizerBuilder::wrap(const std::vector<TemplatePiece>& outer)
{
    std::vector<TemplatePiece> pieces;
    for (const TemplatePiece& piece : outer) {
        if (piece.isText) {
            pieces.insert(pieces.end(), m_data->aroundText.begin(), m_data->aroundText.end());
        } else {
            pieces.push_back(piece);
        }
    }
    m_data->aroundText = std::move(pieces);
}

Result<void> TokenizerBuilder::readPostProcessor(const Json& object, const std::string& path)
{
    RW_TRY(const std::string type, tokenizer::stepType(object, source(path)));
    FieldReader reader(object, m_file, path + ".");
    if (type == "Sequence") {
        RW_TRY(const auto list, tokenizer::stepList(object, "processors", source(path)));
        for (std::size_t i = 0; i < list.size(); ++i) {
            RW_TRY_VOID(readPostProcessor(*list[i], fmt::format("{}.processors[{}]", path, i)));
        }
        return {};
    }
    if (type == "TemplateProcessing") {
        return readTemplate(object, path);
    }
    if (type == "ByteLevel" || type == "RobertaProcessing") {
        m_data->trimOffsets = true;
        m_data->trimKeepsPrefix = true;
        reader.optional("trim_offsets", m_data->trimOffsets);
        reader.optional("add_prefix_space", m_data->trimKeepsPrefix);
        RW_TRY_VOID(reader.result());
        if (type == "ByteLevel") {
            return {};
        }
    }
    if (type == "BertProcessing" || type == "RobertaProcessing") {
        return readClassTemplate(object, path);
    }
    return fail(Errc::Unsupported, fmt::format("{}: the post-processor \"{}\" is not supported", path, type), m_file);
}

/// The fixed template of BERT and RoBERTa: "cls", the text, "sep"; each field is [token, id].
Result<void> TokenizerBuilder::readClassTemplate(const Json& object, const std::string& path)
{
    std::vector<TemplatePiece> pieces;
    FieldReader reader(object, m_file, path + ".");
    for (const char* key : { "cls", "sep" }) {
        const Json* field = reader.find(key);
        if (field == nullptr || !field->is_array() || field->size() != 2 || !(*field)[1].is_number_unsigned()) {
            return fail(Errc::FieldInvalid, fmt::format("{}.{} must be [token, id]", path, key), m_file);
        }
        pieces.push_back({ false, { (*field)[1].get<TokenId>() } });
    }
    pieces.insert(pieces.begin() + 1, TemplatePiece { true, {} });
    wrap(pieces);
    return {};
}

Result<void> TokenizerBuilder::readTemplate(const Json& object, const std::string& path)
{
    static const Json kNone = Json::object();
    FieldReader reader(object, m_file, path + ".");
    const Json* specials = reader.find("special_tokens");
    RW_TRY(const auto list, tokenizer::stepList(object, "single", source(path)));
    std::vector<TemplatePiece> pieces;
    for (std::size_t i = 0; i < list.size(); ++i) {
        RW_TRY(TemplatePiece piece,
               readTemplatePiece(*list[i], specials != nullptr ? *specials : kNone,
                                 fmt::format("{}.single[{}]", path, i)));
        pieces.push_back(std::move(piece));
    }
    if (std::none_of(pieces.begin(), pieces.end(), [](const TemplatePiece& piece) { return piece.isText; })) {
        return fail(Errc::FieldInvalid, fmt::format("{}.single has no place for the text", path), m_file);
    }
    wrap(pieces);
    return {};
}

Result<TemplatePiece> TokenizerBuilder::readTemplatePiece(const Json& piece, const Json& specials,
                                                          const std::string& path)
{
    if (piece.is_object() && piece.contains("Sequence")) {
        return TemplatePiece { true, {} };
    }
    const std::string where = path + ".SpecialToken.";
    if (!piece.is_object() || !piece.contains("SpecialToken") || !piece["SpecialToken"].is_object()) {
        return fail(Errc::FieldInvalid, fmt::format("{} must be a Sequence or a SpecialToken", path), m_file);
    }
    std::string name;
    FieldReader special(piece["SpecialToken"], m_file, where);
    special.require("id", name);
    RW_TRY_VOID(special.result());
    if (!specials.is_object() || !specials.contains(name) || !specials[name].is_object()
        || !specials[name].contains("ids") || !specials[name]["ids"].is_array()) {
        return fail(Errc::FieldMissing, fmt::format("{}: no special_tokens entry for \"{}\"", path, name), m_file);
    }
    TemplatePiece result;
    for (const Json& id : specials[name]["ids"]) {
        if (!id.is_number_unsigned() || id.get<std::uint64_t>() > std::numeric_limits<std::uint32_t>::max()) {
            return fail(Errc::FieldInvalid, fmt::format("{}: an id of \"{}\" is not a token id", path, name), m_file);
        }
        result.ids.push_back(id.get<TokenId>());
    }
    return result;
}

Result<void> TokenizerBuilder::readSentencePiece(std::string_view bytes)
{
    RW_TRY(m_data->sentencePiece, tokenizer::SentencePieceModel::parse(bytes, m_file));
    m_data->special = m_data->sentencePiece->specialTokens();
    m_data->aroundText.clear();
    if (m_data->special.bos) {
        m_data->aroundText.push_back({ false, { *m_data->special.bos } });
    }
    m_data->aroundText.push_back({ true, {} });
    return {};
}

Result<void> TokenizerBuilder::applyFolder(const fs::path& folder)
{
    const auto readObject = [](const fs::path& path) -> Result<Json> {
        RW_TRY(Json object, readJsonFile(path));
        if (!object.is_object()) {
            return fail(Errc::FieldInvalid, "must be an object", path.string());
        }
        return object;
    };
    std::error_code ignored;
    if (const fs::path path = folder / "special_tokens_map.json"; fs::exists(path, ignored)) {
        RW_TRY(const Json map, readObject(path));
        applyRoles(map);
    }
    if (const fs::path path = folder / "tokenizer_config.json"; fs::exists(path, ignored)) {
        RW_TRY(const Json config, readObject(path));
        RW_TRY_VOID(applyConfig(config, path.string()));
        if (config.contains("added_tokens_decoder")) {
            return {};
        }
    }
    if (const fs::path path = folder / "added_tokens.json"; fs::exists(path, ignored)) {
        RW_TRY(const Json tokens, readObject(path));
        RW_TRY_VOID(applyAddedTokensMap(tokens, path.string()));
    }
    return {};
}

Result<void> TokenizerBuilder::applyConfig(const Json& config, const std::string& file)
{
    FieldReader reader(config, file);
    std::string truncationSide;
    std::string paddingSide;
    reader.optional("truncation_side", truncationSide);
    reader.optional("padding_side", paddingSide);
    reader.optional("clean_up_tokenization_spaces", m_data->cleanUpSpaces);
    const Json* added = reader.find("added_tokens_decoder");
    RW_TRY_VOID(reader.result());
    if (!truncationSide.empty()) {
        RW_TRY(m_data->truncationSide, readSide(truncationSide, "truncation_side", file));
    }
    if (!paddingSide.empty()) {
        RW_TRY(m_data->paddingSide, readSide(paddingSide, "padding_side", file));
    }
    if (added != nullptr) {
        RW_TRY_VOID(applyAddedTokensDecoder(*added, file));
    }
    applyRoles(config);
    return applyBosEos(config, file);
}

/// {"id": {token}}: tokens beyond those of the tokenizer itself, in the order of their ids.
Result<void> TokenizerBuilder::applyAddedTokensDecoder(const Json& tokens, const std::string& file)
{
    if (!tokens.is_object()) {
        return fail(Errc::FieldInvalid, "added_tokens_decoder must be an object", file);
    }
    std::map<TokenId, AddedToken> byId;
    for (const auto& item : tokens.items()) {
        const std::string path = fmt::format("added_tokens_decoder.{}", item.key());
        TokenId id = -1;
        const char* end = item.key().data() + item.key().size();
        const auto parsed = std::from_chars(item.key().data(), end, id);
        if (parsed.ec != std::errc() || parsed.ptr != end || id < 0 || id > std::numeric_limits<std::uint32_t>::max()
            || !item.value().is_object()) {
            return fail(Errc::FieldInvalid, fmt::format("{} must be a token id with an object", path), file);
        }
        RW_TRY(AddedToken token, readAddedToken(item.value(), { file, path, m_warnings }, false));
        byId[id] = std::move(token);
    }
    for (auto& [id, token] : byId) {
        addToken(std::move(token), id);
    }
    return {};
}

/// {"token": id}, the older form.
Result<void> TokenizerBuilder::applyAddedTokensMap(const Json& tokens, const std::string& file)
{
    std::map<TokenId, std::string> byId;
    for (const auto& item : tokens.items()) {
        if (!item.value().is_number_unsigned()
            || item.value().get<std::uint64_t>() > std::numeric_limits<std::uint32_t>::max()) {
            return fail(Errc::FieldInvalid, fmt::format("the id of \"{}\" is not a token id", item.key()), file);
        }
        byId[item.value().get<TokenId>()] = item.key();
    }
    for (auto& [id, content] : byId) {
        AddedToken token;
        token.content = std::move(content);
        token.normalized = true;
        addToken(std::move(token), id);
    }
    return {};
}

/// bos_token, eos_token, unk_token, pad_token and the unnamed special tokens; those not in the vocabulary are added.
void TokenizerBuilder::applyRoles(const Json& config)
{
    const auto add = [&](const Json& value) -> std::optional<TokenId> {
        const auto content = tokenText(value);
        if (!content || content->empty()) {
            return std::nullopt;
        }
        addToken(specialToken(*content), std::nullopt);
        return idOf(*content);
    };
    const std::pair<const char*, std::optional<TokenId>*> roles[] = { { "bos_token", &m_data->special.bos },
                                                                      { "eos_token", &m_data->special.eos },
                                                                      { "unk_token", &m_data->special.unk },
                                                                      { "pad_token", &m_data->special.pad } };
    for (const auto& [key, id] : roles) {
        if (!config.contains(key)) {
            continue;
        }
        if (const auto found = add(config[key])) {
            *id = found;
        }
    }
    for (const char* key : { "sep_token", "cls_token", "mask_token" }) {
        if (config.contains(key)) {
            add(config[key]);
        }
    }
    const char* additional = "additional_special_tokens";
    if (config.contains(additional) && config[additional].is_array()) {
        for (const Json& token : config[additional]) {
            add(token);
        }
    }
}

/// add_bos_token and add_eos_token replace the template for the classes that read them.
Result<void> TokenizerBuilder::applyBosEos(const Json& config, const std::string& file)
{
    std::string tokenizerClass;
    bool addBos = true;
    bool addEos = false;
    FieldReader reader(config, file);
    reader.optional("tokenizer_class", tokenizerClass);
    const bool said = reader.find("add_bos_token") != nullptr || reader.find("add_eos_token") != nullptr;
    reader.optional("add_bos_token", addBos);
    reader.optional("add_eos_token", addEos);
    RW_TRY_VOID(reader.result());
    const bool readsThem = m_data->sentencePiece || tokenizerClass.starts_with("LlamaTokenizer")
        || tokenizerClass.starts_with("GemmaTokenizer") || tokenizerClass.starts_with("CodeLlamaTokenizer");
    if (!readsThem || (!said && !m_data->sentencePiece)) {
        return {};
    }
    m_data->aroundText.clear();
    if (addBos && m_data->special.bos) {
        m_data->aroundText.push_back({ false, { *m_data->special.bos } });
    }
    m_data->aroundText.push_back({ true, {} });
    if (addEos && m_data->special.eos) {
        m_data->aroundText.push_back({ false, { *m_data->special.eos } });
    }
    return {};
}

Result<Tokenizer> TokenizerBuilder::finish()
{
    for (const AddedToken& token : m_data->added.all()) {
        if (token.normalized && m_data->normalizer) {
            auto text = tokenizer::TrackedText::fromInput(token.content, 0, false);
            RW_TRY_VOID(m_data->normalizer->apply(text));
            m_data->added.index(token, text.text);
        } else {
            m_data->added.index(token, token.content);
        }
    }
    m_data->vocabSize = m_data->modelVocabSize() + static_cast<std::int64_t>(m_newTokens.size());
    return Tokenizer(std::move(m_data));
}

Result<Tokenizer> Tokenizer::fromJson(std::string_view json, const std::string& subject, std::vector<Warning>& warnings)
{
    TokenizerBuilder builder(subject, warnings);
    RW_TRY_VOID(builder.readTokenizerJson(json));
    return builder.finish();
}

Result<Tokenizer> Tokenizer::load(const fs::path& fileOrFolder, std::vector<Warning>& warnings)
{
    std::error_code ignored;
    const bool isFolder = fs::is_directory(fileOrFolder, ignored);
    fs::path file = fileOrFolder;
    if (isFolder) {
        file = fileOrFolder / "tokenizer.json";
        if (!fs::exists(file, ignored)) {
            file = fileOrFolder / "tokenizer.model";
        }
        if (!fs::exists(file, ignored)) {
            return fail(Errc::FileNotFound, "the folder has neither tokenizer.json nor tokenizer.model",
                        fileOrFolder.string());
        }
    }
    TokenizerBuilder builder(file.string(), warnings);
    if (file.extension() == ".model") {
        RW_TRY(const std::string bytes, readFile(file, kMaxModelBytes));
        RW_TRY_VOID(builder.readSentencePiece(bytes));
    } else {
        RW_TRY(const std::string text, readFile(file, kMaxJsonBytes));
        RW_TRY_VOID(builder.readTokenizerJson(text));
    }
    if (isFolder) {
        RW_TRY_VOID(builder.applyFolder(fileOrFolder));
    }
    return builder.finish();
}

} // namespace rankwise::io

// tokenizers: every golden table, hostile files, and properties that need no table.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/base/json.h"
#include "backend/io/tokenizer.h"

#include <chrono>
#include <random>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <QTemporaryDir>
#include <QTest>

using namespace rankwise;
using namespace rankwise::io;
namespace fs = std::filesystem;

namespace {

fs::path goldenFolder()
{
    const char* folder = std::getenv("RANKWISE_GOLDEN_DIR");
    return folder != nullptr ? fs::path(folder) : fs::path(RANKWISE_TEST_DATA "/golden");
}

std::vector<fs::path> tableFolders()
{
    std::vector<fs::path> folders;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(goldenFolder() / "models" / "tokenizers", ignored)) {
        if (entry.is_directory()) {
            folders.push_back(entry.path());
        }
    }
    std::sort(folders.begin(), folders.end());
    return folders;
}

Tokenizer loaded(const fs::path& path)
{
    std::vector<Warning> warnings;
    auto tokenizer = Tokenizer::load(path, warnings);
    if (!tokenizer) {
        throw std::runtime_error(tokenizer.error().describe());
    }
    return *tokenizer;
}

Tokenizer parsed(const std::string& json)
{
    std::vector<Warning> warnings;
    auto tokenizer = Tokenizer::fromJson(json, "test.json", warnings);
    if (!tokenizer) {
        throw std::runtime_error(tokenizer.error().describe());
    }
    return *tokenizer;
}

using Ids = std::vector<TokenId>;

Ids encoded(const Tokenizer& tokenizer, const std::string& text, const EncodeOptions& options = {})
{
    const auto encoding = tokenizer.encode(text, options);
    if (!encoding) {
        throw std::runtime_error(encoding.error().describe());
    }
    return encoding->ids;
}

std::string joined(const Ids& ids)
{
    return fmt::format("[{}]", fmt::join(ids, ","));
}

/// A row of a golden table: one message for each column that differs.
class RowCheck {
public:
    RowCheck(const Tokenizer& tokenizer, const Tokenizer* sentencePiece, const Json& table, const Json& row)
        : m_tokenizer(tokenizer), m_sentencePiece(sentencePiece), m_table(table), m_row(row),
          m_text(row.at("text").get<std::string>())
    {
    }

    std::vector<std::string> run()
    {
        for (const auto& item : m_row.items()) {
            if (item.key() != "text") {
                column(item.key(), item.value());
            }
        }
        return m_wrong;
    }

private:
    void column(const std::string& name, const Json& value)
    {
        if (name == "ids") {
            ids(name, encoded(m_tokenizer, m_text), value);
        } else if (name == "ids_without_special_tokens") {
            ids(name, encoded(m_tokenizer, m_text, { .addSpecialTokens = false }), value);
        } else if (name == "pieces") {
            std::vector<std::string> pieces;
            for (const TokenId id : encoded(m_tokenizer, m_text)) {
                pieces.push_back(m_tokenizer.idToToken(id).value_or("(none)"));
            }
            expect(name, pieces == value.get<std::vector<std::string>>(), fmt::format("{}", fmt::join(pieces, "|")));
        } else if (name == "decoded" || name == "decoded_skipping_special") {
            const auto ids = m_row.at("ids").get<Ids>();
            const std::string text = m_tokenizer.decode(ids, name != "decoded");
            expect(name, text == value.get<std::string>(), text);
        } else if (name == "ids_sentencepiece") {
            if (m_sentencePiece == nullptr) {
                m_wrong.push_back("ids_sentencepiece without a tokenizer.model");
                return;
            }
            ids(name, encoded(*m_sentencePiece, m_text, { .addSpecialTokens = false }), value);
        } else if (name.starts_with("padded_")) {
            ids(name, padded(name).ids, value);
        } else if (name.starts_with("mask_")) {
            const auto mask = padded(name).attentionMask;
            ids(name, Ids(mask.begin(), mask.end()), value);
        } else {
            m_wrong.push_back("a column that this test does not know: " + name);
        }
    }

    Encoding padded(const std::string& name) const
    {
        const auto length = std::stoll(name.substr(name.find('_') + 1));
        const Side truncation = m_table.at("truncation_side") == "left" ? Side::Left : Side::Right;
        const Side padding = m_table.at("padding_side") == "left" ? Side::Left : Side::Right;
        return m_tokenizer
            .encode(m_text,
                    { .maxLength = length, .truncationSide = truncation, .padTo = length, .paddingSide = padding })
            .value();
    }

    void ids(const std::string& name, const Ids& ours, const Json& expected)
    {
        expect(name, ours == expected.get<Ids>(), joined(ours));
    }

    void expect(const std::string& name, bool equal, const std::string& ours)
    {
        if (!equal) {
            m_wrong.push_back(fmt::format("{} of \"{}\": {} instead of {}", name, m_text, ours, m_row.at(name).dump()));
        }
    }

    const Tokenizer& m_tokenizer;
    const Tokenizer* m_sentencePiece;
    const Json& m_table;
    const Json& m_row;
    std::string m_text;
    std::vector<std::string> m_wrong;
};

/// A byte-level tokenizer with a small vocabulary; `edit` changes its JSON.
template <class Edit> std::string byteLevelJson(const Edit& edit)
{
    Json json = Json::parse(R"({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null, "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "unk_token": null, "vocab": {}, "merges": []}})");
    Json& vocabulary = json["model"]["vocab"];
    // The printable stand-ins of the bytes, spelled out independently of the reader's table.
    int next = 256;
    for (int byte = 0; byte < 256; ++byte) {
        const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        const QString character(QChar(printable ? byte : next));
        next += printable ? 0 : 1;
        vocabulary[character.toStdString()] = byte;
    }
    edit(json);
    return json.dump();
}

std::string byteLevelJson()
{
    return byteLevelJson([](Json&) {});
}

/// The textbook algorithm: the first of the earliest merges, over and over.
Ids slowBpe(const Json& model, const std::vector<std::string>& characters)
{
    std::map<std::pair<std::string, std::string>, std::size_t> ranks;
    for (std::size_t i = 0; i < model["merges"].size(); ++i) {
        ranks[{ model["merges"][i][0], model["merges"][i][1] }] = i;
    }
    std::vector<std::string> symbols = characters;
    while (true) {
        std::size_t best = symbols.size();
        std::size_t rank = ranks.size();
        for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
            const auto found = ranks.find({ symbols[i], symbols[i + 1] });
            if (found != ranks.end() && found->second < rank) {
                rank = found->second;
                best = i;
            }
        }
        if (best == symbols.size()) {
            break;
        }
        symbols[best] += symbols[best + 1];
        symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    Ids ids;
    for (const std::string& symbol : symbols) {
        ids.push_back(model["vocab"][symbol].get<TokenId>());
    }
    return ids;
}

/// Merges over the letters a to d: every pair of known tokens may merge, in random order.
Json randomModel(std::mt19937& random, std::size_t count)
{
    Json model = { { "type", "BPE" }, { "vocab", Json::object() }, { "merges", Json::array() } };
    std::vector<std::string> tokens { "a", "b", "c", "d" };
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        model["vocab"][tokens[i]] = i;
    }
    for (std::size_t tries = 0; tries < count; ++tries) {
        const std::string& left = tokens[random() % tokens.size()];
        const std::string& right = tokens[random() % tokens.size()];
        const std::string both = left + right;
        if (both.size() > 12 || model["vocab"].contains(both)) {
            continue;
        }
        model["merges"].push_back({ left, right });
        model["vocab"][both] = tokens.size();
        tokens.push_back(both);
    }
    return model;
}

std::string randomText(std::mt19937& random, std::size_t length)
{
    static const std::vector<std::string> kParts { "a",        "Z", " ",    "  ",   "\n",
                                                   "\t",       "7", "'s",   "'",    ".",
                                                   "é",        "ß", "字",   "🙂", "\xE2\x80\x8B",
                                                   "\xC2\xA0", "١", "pick", "block" };
    std::string text;
    for (std::size_t i = 0; i < length; ++i) {
        text += kParts[random() % kParts.size()];
    }
    return text;
}

} // namespace

class TestTokenizer : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void goldenTables_data();
    void goldenTables();
    void hostileFiles_data();
    void hostileFiles();
    void refusesTruncation();
    void survivesFlippedBytes();
    void refusesMalformed_data();
    void refusesMalformed();
    void missingFile();
    void notSentencePiece();
    void regexBombEnds();
    void refusesBadText();
    void byteLevelRoundTrip();
    void mergesLikeTextbook();
    void rememberedPiecesStayRight();
    void threadsAgree();
    void offsetsCoverText();
    void truncationSides();
    void padsToMultiple();
    void batchPadsToLongest();
    void addedTokenFlags();
    void normalizedAddedTokens();
    void unknownTokens();
    void splitBehaviors_data();
    void splitBehaviors();
    void normalizers_data();
    void normalizers();
    void metaspace();
    void decoders();
    void templates();
    void configurationFiles();
    void sentencePieceFolder();
};

void TestTokenizer::goldenTables_data()
{
    QTest::addColumn<QString>("folder");
    for (const fs::path& folder : tableFolders()) {
        QTest::newRow(folder.filename().c_str()) << QString::fromStdString(folder.string());
    }
    QVERIFY2(!tableFolders().empty(), "no tokenizer in the golden folder");
}

void TestTokenizer::goldenTables()
{
    QFETCH(QString, folder);
    const fs::path path = folder.toStdString();
    const Json table = readJsonFile(path / "table.json").value();
    const Tokenizer tokenizer = loaded(path);
    std::optional<Tokenizer> sentencePiece;
    if (fs::exists(path / "tokenizer.model")) {
        sentencePiece = loaded(path / "tokenizer.model");
    }

    QCOMPARE(tokenizer.truncationSide(), table.at("truncation_side") == "left" ? Side::Left : Side::Right);
    QCOMPARE(tokenizer.paddingSide(), table.at("padding_side") == "left" ? Side::Left : Side::Right);
    QCOMPARE(tokenizer.specialTokens().pad.value_or(-1), table.at("pad_token_id").get<TokenId>());
    QCOMPARE(tokenizer.specialTokens().bos.value_or(-1), table.at("bos_token_id").get<TokenId>());
    QCOMPARE(tokenizer.specialTokens().eos.value_or(-1), table.at("eos_token_id").get<TokenId>());
    QCOMPARE(tokenizer.vocabSize(), table.at("vocab_size_with_added").get<std::int64_t>());
    if (table.contains("added_ids")) {
        for (const TokenId id : table["added_ids"].get<Ids>()) {
            QVERIFY(tokenizer.idToToken(id).has_value());
            QCOMPARE(tokenizer.tokenToId(*tokenizer.idToToken(id)).value_or(-1), id);
        }
    }

    QVERIFY(!table.at("rows").empty());
    Json differs = Json::array();
    std::vector<std::string> wrong;
    for (std::size_t i = 0; i < table["rows"].size(); ++i) {
        const Json& row = table["rows"][i];
        RowCheck check(tokenizer, sentencePiece ? &*sentencePiece : nullptr, table, row);
        for (std::string& message : check.run()) {
            wrong.push_back(std::move(message));
        }
        if (row.contains("ids_sentencepiece") && row["ids_sentencepiece"] != row["ids_without_special_tokens"]) {
            differs.push_back(i);
        }
    }
    QVERIFY2(wrong.empty(), fmt::format("{}", fmt::join(wrong, "\n")).c_str());
    if (table.contains("rows_where_sentencepiece_differs")) {
        QCOMPARE(differs.dump(), table["rows_where_sentencepiece_differs"].dump());
    }
}

void TestTokenizer::hostileFiles_data()
{
    QTest::addColumn<QString>("file");
    QTest::addColumn<QString>("expect");
    QTest::addColumn<QString>("idsOfAbcA");
    QTest::addColumn<int>("vocabSize");
    const fs::path folder = goldenFolder() / "hostile" / "tokenizer";
    const auto cases = readJsonFile(folder / "cases.json");
    QVERIFY2(cases && !cases->at("cases").empty(), "no hostile tokenizer in the golden folder");
    for (const Json& row : cases->at("cases")) {
        const auto file = row.at("file").get<std::string>();
        const Json& reference = row.at("reference");
        QTest::newRow(file.c_str()) << QString::fromStdString((folder / file).string())
                                    << QString::fromStdString(row.at("expect").get<std::string>())
                                    << QString::fromStdString(
                                           reference.contains("ids_of_abc_a") ? reference["ids_of_abc_a"].dump() : "")
                                    << (reference.contains("vocab_size") ? reference["vocab_size"].get<int>() : -1);
    }
}

void TestTokenizer::hostileFiles()
{
    QFETCH(QString, file);
    QFETCH(QString, expect);
    QFETCH(QString, idsOfAbcA);
    QFETCH(int, vocabSize);
    std::vector<Warning> warnings;
    const auto tokenizer = Tokenizer::load(file.toStdString(), warnings);
    if (expect == "refuse") {
        QVERIFY(!tokenizer);
        QVERIFY(tokenizer.error().code != Errc::Internal);
        QCOMPARE(tokenizer.error().subject, file.toStdString());
        return;
    }
    QVERIFY2(expect == "open" || expect == "warn",
             qPrintable("an expectation that this test does not know: " + expect));
    QVERIFY2(tokenizer.has_value(), tokenizer ? "" : tokenizer.error().describe().c_str());
    QCOMPARE(!warnings.empty(), expect == "warn");
    if (!idsOfAbcA.isEmpty()) {
        QCOMPARE(joined(encoded(*tokenizer, "abc a")), Json::parse(idsOfAbcA.toStdString()).dump());
        QCOMPARE(tokenizer->vocabSize(), vocabSize);
    }
}

void TestTokenizer::refusesTruncation()
{
    const std::string whole = byteLevelJson();
    std::vector<Warning> warnings;
    for (std::size_t length = 0; length < whole.size(); ++length) {
        const auto tokenizer = Tokenizer::fromJson(whole.substr(0, length), "cut.json", warnings);
        QVERIFY2(!tokenizer, fmt::format("accepted after {} bytes", length).c_str());
        QCOMPARE(tokenizer.error().code, Errc::JsonInvalid);
    }
    QVERIFY(Tokenizer::fromJson(whole, "whole.json", warnings));
}

void TestTokenizer::survivesFlippedBytes()
{
    std::mt19937 random(7);
    for (const fs::path& folder : tableFolders()) {
        const std::string whole = readFile(folder / "tokenizer.json").value();
        for (int i = 0; i < 12; ++i) {
            std::string text = whole;
            text[random() % text.size()] = static_cast<char>(random());
            std::vector<Warning> warnings;
            if (const auto tokenizer = Tokenizer::fromJson(text, "flipped.json", warnings)) {
                (void)tokenizer->encode("pick up the <image> 123\n");
                (void)tokenizer->decode(Ids { 0, 5, 100, 1'000'000 }, false);
            }
        }
    }
}

void TestTokenizer::refusesMalformed_data()
{
    QTest::addColumn<QString>("pointer");
    QTest::addColumn<QString>("value");
    QTest::addColumn<int>("code");
    const auto row = [](const char* name, const char* pointer, const char* value, Errc code) {
        QTest::newRow(name) << pointer << value << static_cast<int>(code);
    };
    row("model null", "/model", "null", Errc::FieldMissing);
    row("model a string", "/model", "\"BPE\"", Errc::FieldInvalid);
    row("unigram", "/model/type", "\"Unigram\"", Errc::Unsupported);
    row("vocab an array", "/model/vocab", "[]", Errc::FieldInvalid);
    row("id a string", "/model/vocab/a", "\"1\"", Errc::FieldInvalid);
    row("id beyond 32 bits", "/model/vocab/a", "4294967296", Errc::FieldInvalid);
    row("merges null", "/model/merges", "null", Errc::FieldMissing);
    row("merge of three", "/model/merges", R"([["a","b","c"]])", Errc::FieldInvalid);
    row("merge of a number", "/model/merges", "[3]", Errc::FieldInvalid);
    row("merge without space", "/model/merges", R"(["ab"])", Errc::FieldInvalid);
    row("merge of unknown tokens", "/model/merges", R"([["a","xyz"]])", Errc::DataInvalid);
    row("unknown normalizer", "/normalizer", R"({"type":"Precompiled"})", Errc::Unsupported);
    row("normalizer without type", "/normalizer", "{}", Errc::FieldMissing);
    row("normalizer a number", "/normalizer", "3", Errc::FieldInvalid);
    row("replace without pattern", "/normalizer", R"({"type":"Replace","content":"x"})", Errc::FieldMissing);
    row("pattern of two kinds", "/normalizer",
        R"({"type":"Replace","content":"x","pattern":{"String":"a","Regex":"b"}})", Errc::FieldInvalid);
    row("bad regex", "/pre_tokenizer", R"({"type":"Split","pattern":{"Regex":"(a"},"behavior":"Isolated"})",
        Errc::FieldInvalid);
    row("bad behavior", "/pre_tokenizer", R"({"type":"Split","pattern":{"String":"a"},"behavior":"Sideways"})",
        Errc::FieldInvalid);
    row("sequence without list", "/pre_tokenizer", R"({"type":"Sequence"})", Errc::FieldMissing);
    row("unknown pre-tokenizer", "/pre_tokenizer", R"({"type":"UnicodeScripts"})", Errc::Unsupported);
    row("metaspace of two characters", "/pre_tokenizer", R"({"type":"Metaspace","replacement":"ab"})",
        Errc::FieldInvalid);
    row("metaspace scheme", "/pre_tokenizer", R"({"type":"Metaspace","replacement":"_","prepend_scheme":"odd"})",
        Errc::FieldInvalid);
    row("unknown decoder", "/decoder", R"({"type":"CTC"})", Errc::Unsupported);
    row("strip of two characters", "/decoder", R"({"type":"Strip","content":"ab","start":1,"stop":0})",
        Errc::FieldInvalid);
    row("template without text", "/post_processor", R"({"type":"TemplateProcessing","single":[]})", Errc::FieldInvalid);
    row("template token unknown", "/post_processor",
        R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}]})",
        Errc::FieldMissing);
    row("unknown post-processor", "/post_processor", R"({"type":"Other"})", Errc::Unsupported);
    row("added tokens an object", "/added_tokens", "{}", Errc::FieldInvalid);
    row("added token without content", "/added_tokens", R"([{"id":1}])", Errc::FieldMissing);
    row("added token id negative", "/added_tokens", R"([{"id":-1,"content":"x"}])", Errc::FieldInvalid);
    row("truncation negative", "/truncation", R"({"max_length":-1})", Errc::FieldInvalid);
    row("truncation direction", "/truncation", R"({"max_length":1,"direction":"Up"})", Errc::FieldInvalid);
    row("padding to a negative", "/padding", R"({"strategy":{"Fixed":-3},"pad_id":0})", Errc::FieldInvalid);
}

void TestTokenizer::refusesMalformed()
{
    QFETCH(QString, pointer);
    QFETCH(QString, value);
    QFETCH(int, code);
    const std::string text = byteLevelJson(
        [&](Json& json) { json[Json::json_pointer(pointer.toStdString())] = Json::parse(value.toStdString()); });
    std::vector<Warning> warnings;
    const auto tokenizer = Tokenizer::fromJson(text, "x.json", warnings);
    QVERIFY(!tokenizer);
    QCOMPARE(errcName(tokenizer.error().code), errcName(static_cast<Errc>(code)));
    QCOMPARE(tokenizer.error().subject, std::string("x.json"));
}

void TestTokenizer::missingFile()
{
    const QTemporaryDir folder;
    std::vector<Warning> warnings;
    for (const char* name : { "", "tokenizer.json", "tokenizer.model" }) {
        const auto tokenizer = Tokenizer::load(fs::path(folder.path().toStdString()) / name, warnings);
        QVERIFY(!tokenizer);
        QCOMPARE(tokenizer.error().code, Errc::FileNotFound);
    }
}

void TestTokenizer::notSentencePiece()
{
    const QTemporaryDir folder;
    const fs::path path = fs::path(folder.path().toStdString()) / "tokenizer.model";
    for (const std::string_view bytes : { "", "no model", "\x0a\x05\x0a\x03" }) {
        QVERIFY(writeFileAtomically(path, bytes));
        std::vector<Warning> warnings;
        const auto tokenizer = Tokenizer::load(path, warnings);
        QVERIFY(!tokenizer);
        QCOMPARE(tokenizer.error().code, Errc::HeaderInvalid);
    }
}

void TestTokenizer::regexBombEnds()
{
    const std::string text = byteLevelJson([](Json& json) {
        json["pre_tokenizer"] = { { "type", "Split" },
                                  { "pattern", { { "Regex", "(a+)+$" } } },
                                  { "behavior", "Isolated" } };
    });
    std::vector<Warning> warnings;
    const auto tokenizer = Tokenizer::fromJson(text, "bomb.json", warnings);
    QVERIFY(tokenizer);
    QCOMPARE(warnings.size(), std::size_t { 1 });
    const auto start = std::chrono::steady_clock::now();
    const auto encoding = tokenizer->encode(std::string(5'000, 'a') + "b");
    QVERIFY(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
    QVERIFY(!encoding);
    QCOMPARE(encoding.error().code, Errc::TooLarge);
    QCOMPARE(joined(encoded(*tokenizer, "baa")), joined({ 'b', 'a', 'a' }));
}

void TestTokenizer::refusesBadText()
{
    const Tokenizer tokenizer = parsed(byteLevelJson());
    for (const std::string_view text : { "\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "\xf5\x80\x80\x80" }) {
        const auto encoding = tokenizer.encode(text);
        QVERIFY(!encoding);
        QCOMPARE(encoding.error().code, Errc::DataInvalid);
    }
}

void TestTokenizer::byteLevelRoundTrip()
{
    std::mt19937 random(1);
    std::vector<Tokenizer> tokenizers { parsed(byteLevelJson()) };
    for (const fs::path& folder : tableFolders()) {
        const Json json = readJsonFile(folder / "tokenizer.json").value();
        if (json["decoder"].is_object() && json["decoder"].contains("type") && json["decoder"]["type"] == "ByteLevel") {
            tokenizers.push_back(loaded(folder));
        }
    }
    for (const Tokenizer& tokenizer : tokenizers) {
        for (int i = 0; i < 300; ++i) {
            const std::string text = randomText(random, random() % 60);
            QCOMPARE(tokenizer.decode(encoded(tokenizer, text), false), text);
        }
    }
}

void TestTokenizer::mergesLikeTextbook()
{
    std::mt19937 random(2);
    for (int round = 0; round < 20; ++round) {
        const Json model = randomModel(random, 300);
        const Tokenizer tokenizer = parsed(Json { { "model", model } }.dump());
        for (const std::size_t length : { 1u, 2u, 7u, 30u, 31u, 32u, 47u, 48u, 49u, 50u, 200u, 700u }) {
            std::vector<std::string> characters;
            std::string text;
            for (std::size_t i = 0; i < length; ++i) {
                characters.push_back(std::string(1, static_cast<char>('a' + random() % 4)));
                text += characters.back();
            }
            QCOMPARE(joined(encoded(tokenizer, text)), joined(slowBpe(model, characters)));
        }
    }
}

void TestTokenizer::rememberedPiecesStayRight()
{
    // Six tokenizers share a thread's memory of four; each must keep its own pieces.
    std::mt19937 random(3);
    std::vector<Json> models;
    std::vector<Tokenizer> tokenizers;
    for (int i = 0; i < 6; ++i) {
        models.push_back(randomModel(random, 100));
        tokenizers.push_back(parsed(Json { { "model", models.back() } }.dump()));
    }
    for (int round = 0; round < 400; ++round) {
        const std::size_t which = random() % models.size();
        std::vector<std::string> characters;
        std::string text;
        for (std::size_t i = 0; i < 1 + static_cast<std::size_t>(round) % 6; ++i) {
            characters.push_back(std::string(1, static_cast<char>('a' + random() % 4)));
            text += characters.back();
        }
        QCOMPARE(joined(encoded(tokenizers[which], text)), joined(slowBpe(models[which], characters)));
    }
}

void TestTokenizer::threadsAgree()
{
    const Tokenizer tokenizer = parsed(byteLevelJson());
    std::mt19937 random(4);
    std::vector<std::string> texts;
    std::vector<Ids> expected;
    for (int i = 0; i < 50; ++i) {
        texts.push_back(randomText(random, 40));
        expected.push_back(encoded(tokenizer, texts.back()));
    }
    std::vector<int> failures(4, 0);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < failures.size(); ++t) {
        threads.emplace_back([&, t] {
            for (std::size_t i = 0; i < texts.size(); ++i) {
                failures[t] += encoded(tokenizer, texts[i]) != expected[i];
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    QCOMPARE(failures, std::vector<int>(4, 0));
}

void TestTokenizer::offsetsCoverText()
{
    for (const fs::path& folder : tableFolders()) {
        const Tokenizer tokenizer = loaded(folder);
        for (const std::string text : { "pick up the red block\n", "a<unk>b  c", "naïve 字 🙂 x" }) {
            const auto encoding = tokenizer.encode(text, { .addSpecialTokens = false, .offsets = true });
            QVERIFY(encoding);
            QCOMPARE(encoding->offsets.size(), encoding->ids.size());
            QCOMPARE(joined(encoding->ids), joined(encoded(tokenizer, text, { .addSpecialTokens = false })));
            std::size_t end = 0;
            for (const TextRange& range : encoding->offsets) {
                QVERIFY(range.begin <= range.end && range.begin <= end); // No hole; bytes of one character share it.
                end = std::max(end, range.end);
            }
            QCOMPARE(end, text.size());
        }
    }
    // "ab" merges; offsets without the space when the post-processor says so.
    const std::string trimming = byteLevelJson([](Json& json) {
        json["model"]["vocab"]["Ġa"] = 256;
        json["model"]["merges"] = Json::array({ { "Ġ", "a" } });
        json["post_processor"] = { { "type", "ByteLevel" }, { "trim_offsets", true }, { "add_prefix_space", false } };
    });
    const auto encoding = parsed(trimming).encode("b a", { .offsets = true });
    QVERIFY(encoding);
    QVERIFY((encoding->offsets == std::vector<TextRange> { { 0, 1 }, { 2, 3 } }));
}

void TestTokenizer::truncationSides()
{
    const std::string json = byteLevelJson([](Json& j) {
        j["added_tokens"] = Json::array({ { { "id", 256 }, { "content", "<s>" }, { "special", true } } });
        j["post_processor"] = Json::parse(R"({"type":"TemplateProcessing",
            "single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
            "special_tokens":{"<s>":{"id":"<s>","ids":[256],"tokens":["<s>"]}}})");
    });
    const Tokenizer tokenizer = parsed(json);
    QCOMPARE(joined(encoded(tokenizer, "abcd", { .maxLength = 3 })), joined({ 256, 'a', 'b' }));
    QCOMPARE(joined(encoded(tokenizer, "abcd", { .maxLength = 3, .truncationSide = Side::Left })),
             joined({ 256, 'c', 'd' }));
    QCOMPARE(joined(encoded(tokenizer, "abcd", { .maxLength = 1 })), joined({ 256 }));
    QCOMPARE(joined(encoded(tokenizer, "abcd", { .maxLength = 9 })), joined({ 256, 'a', 'b', 'c', 'd' }));
    QCOMPARE(joined(encoded(tokenizer, "abcd", { .addSpecialTokens = false, .maxLength = 2 })), joined({ 'a', 'b' }));
}

void TestTokenizer::padsToMultiple()
{
    const Tokenizer tokenizer = parsed(byteLevelJson());
    const auto encoding =
        tokenizer.encode("abcde", { .padToMultipleOf = 4, .paddingSide = Side::Left, .padId = 9, .offsets = true });
    QVERIFY(encoding);
    QCOMPARE(joined(encoding->ids), joined({ 9, 9, 9, 'a', 'b', 'c', 'd', 'e' }));
    QCOMPARE(encoding->attentionMask, (std::vector<std::uint8_t> { 0, 0, 0, 1, 1, 1, 1, 1 }));
    QCOMPARE(encoding->offsets.size(), encoding->ids.size());
    QVERIFY((encoding->offsets[3] == TextRange { 0, 1 }));
}

void TestTokenizer::batchPadsToLongest()
{
    const Tokenizer tokenizer = parsed(byteLevelJson());
    const std::vector<std::string> texts { "a", "abc", "" };
    const auto batch = tokenizer.encodeBatch(texts, { .padId = 7 }, true);
    QVERIFY(batch);
    QCOMPARE(joined((*batch)[0].ids), joined({ 'a', 7, 7 }));
    QCOMPARE((*batch)[2].attentionMask, (std::vector<std::uint8_t> { 0, 0, 0 }));
    const std::vector<std::string> bad { "a", "\xff" };
    QVERIFY(!tokenizer.encodeBatch(bad, {}, true));
}

void TestTokenizer::addedTokenFlags()
{
    const auto withToken = [](const Json& flags) {
        return parsed(byteLevelJson([&](Json& json) {
            Json token = { { "id", 256 }, { "content", "<x>" }, { "normalized", false } };
            token.update(flags);
            json["added_tokens"] = Json::array({ token });
        }));
    };
    const Tokenizer plain = withToken(Json::object());
    QCOMPARE(joined(encoded(plain, "a <x> b")), joined({ 'a', ' ', 256, ' ', 'b' }));
    QCOMPARE(joined(encoded(plain, "a<x>b")), joined({ 'a', 256, 'b' }));
    QCOMPARE(plain.decode(Ids { 'a', 256 }, true), std::string("a<x>"));
    const Tokenizer left = withToken({ { "lstrip", true } });
    QCOMPARE(joined(encoded(left, "a \t<x> b")), joined({ 'a', 256, ' ', 'b' }));
    const Tokenizer right = withToken({ { "rstrip", true } });
    QCOMPARE(joined(encoded(right, "a <x> \nb")), joined({ 'a', ' ', 256, 'b' }));
    QCOMPARE(joined(encoded(right, "<x> <x>")), joined({ 256, 256 }));
    const Tokenizer word = withToken({ { "single_word", true } });
    QCOMPARE(joined(encoded(word, "a<x>")), joined({ 'a', '<', 'x', '>' }));
    QCOMPARE(joined(encoded(word, "a <x>.")), joined({ 'a', ' ', 256, '.' }));
    const Tokenizer special = withToken({ { "special", true } });
    QCOMPARE(special.decode(Ids { 'a', 256 }, true), std::string("a"));
    QCOMPARE(special.decode(Ids { 'a', 256 }, false), std::string("a<x>"));
    QVERIFY(special.isSpecial(256) && !special.isSpecial('a'));

    const Tokenizer longest = parsed(byteLevelJson([](Json& json) {
        json["added_tokens"] = Json::array({ { { "id", 256 }, { "content", "<x" } },
                                             { { "id", 257 }, { "content", "<x>" } },
                                             { { "id", 'a' }, { "content", "a" }, { "special", true } } });
    }));
    QCOMPARE(joined(encoded(longest, "<x><xa")), joined({ 257, 256, 'a' }));
    QCOMPARE(longest.vocabSize(), 258);
    QCOMPARE(longest.modelVocabSize(), 256);
    QVERIFY(longest.isSpecial('a'));
}

void TestTokenizer::normalizedAddedTokens()
{
    const Tokenizer tokenizer = parsed(byteLevelJson([](Json& json) {
        json["normalizer"] = { { "type", "Lowercase" } };
        json["added_tokens"] = Json::array({ { { "id", 256 }, { "content", "STOP" }, { "normalized", true } },
                                             { { "id", 257 }, { "content", "GO" }, { "normalized", false } } });
    }));
    QCOMPARE(joined(encoded(tokenizer, "Stop GO go")), joined({ 256, ' ', 257, ' ', 'g', 'o' }));
    const auto encoding = tokenizer.encode("aSTOP", { .offsets = true });
    QVERIFY(encoding);
    QVERIFY((encoding->offsets == std::vector<TextRange> { { 0, 1 }, { 1, 5 } }));
}

void TestTokenizer::unknownTokens()
{
    const auto withUnknown = [](bool fuse, const char* token) {
        return parsed(Json { { "model",
                               { { "type", "BPE" },
                                 { "vocab", { { "a", 0 }, { "?", 1 } } },
                                 { "merges", Json::array() },
                                 { "fuse_unk", fuse },
                                 { "unk_token", token } } } }
                          .dump());
    };
    QCOMPARE(joined(encoded(withUnknown(false, "?"), "axya")), joined({ 0, 1, 1, 0 }));
    QCOMPARE(joined(encoded(withUnknown(true, "?"), "axyax")), joined({ 0, 1, 0, 1 }));
    const auto missing = withUnknown(false, "<unk>").encode("ax");
    QVERIFY(!missing);
    QCOMPARE(missing.error().code, Errc::DataInvalid);
}

void TestTokenizer::splitBehaviors_data()
{
    QTest::addColumn<QString>("pre");
    QTest::addColumn<QString>("pieces");
    // Each piece ends in a merge barrier: every run of '-' and letters of one piece merges into one token.
    const auto row = [](const char* pre, const char* pieces) { QTest::newRow(pre) << pre << pieces; };
    row(R"({"type":"Split","pattern":{"String":"-"},"behavior":"Isolated"})", "a|-|-|b|-|c");
    row(R"({"type":"Split","pattern":{"String":"-"},"behavior":"Removed"})", "a|b|c");
    row(R"({"type":"Split","pattern":{"String":"-"},"behavior":"MergedWithPrevious"})", "a-|-|b-|c");
    row(R"({"type":"Split","pattern":{"String":"-"},"behavior":"MergedWithNext"})", "a|-|-b|-c");
    row(R"({"type":"Split","pattern":{"String":"-"},"behavior":"Contiguous"})", "a|--|b|-|c");
    row(R"({"type":"Split","pattern":{"Regex":"-+"},"behavior":"Isolated"})", "a|--|b|-|c");
    row(R"({"type":"Split","pattern":{"Regex":"[a-z]"},"behavior":"Removed","invert":true})", "a|b|c");
    row(R"({"type":"Split","pattern":{"Regex":"x*"},"behavior":"Isolated"})", "a|-|-|b|-|c");
    row(R"({"type":"CharDelimiterSplit","delimiter":"-"})", "a|b|c");
    row(R"({"type":"Punctuation","behavior":"Contiguous"})", "a|--|b|-|c");
    row(R"({"type":"Whitespace"})", "a|--|b|-|c");
    row(R"({"type":"WhitespaceSplit"})", "a--b-c");
    row(R"({"type":"FixedLength","length":4})", "a--b|-c");
    row(R"({"type":"Sequence","pretokenizers":[{"type":"FixedLength","length":3},
            {"type":"Split","pattern":{"String":"-"},"behavior":"MergedWithPrevious"}]})",
        "a-|-|b-|c");
}

void TestTokenizer::splitBehaviors()
{
    QFETCH(QString, pre);
    QFETCH(QString, pieces);
    // Ids are given to every substring, and any two neighbours merge, so that a piece becomes one token.
    Json model = { { "type", "BPE" }, { "vocab", Json::object() }, { "merges", Json::array() } };
    const std::string text = "a--b-c";
    for (std::size_t length = 1; length <= text.size(); ++length) {
        for (std::size_t begin = 0; begin + length <= text.size(); ++begin) {
            const std::string token = text.substr(begin, length);
            if (!model["vocab"].contains(token)) {
                model["vocab"][token] = model["vocab"].size();
            }
        }
    }
    for (std::size_t length = 2; length <= text.size(); ++length) {
        for (std::size_t begin = 0; begin + length <= text.size(); ++begin) {
            for (std::size_t cut = 1; cut < length; ++cut) {
                model["merges"].push_back({ text.substr(begin, cut), text.substr(begin + cut, length - cut) });
            }
        }
    }
    const Tokenizer tokenizer =
        parsed(Json { { "model", model }, { "pre_tokenizer", Json::parse(pre.toStdString()) } }.dump());
    const auto encoding = tokenizer.encode(text, { .offsets = true });
    QVERIFY(encoding);
    std::vector<std::string> ours;
    for (std::size_t i = 0; i < encoding->ids.size(); ++i) {
        ours.push_back(tokenizer.idToToken(encoding->ids[i]).value());
        const TextRange range = encoding->offsets[i];
        QCOMPARE(text.substr(range.begin, range.end - range.begin), ours.back());
    }
    QCOMPARE(fmt::format("{}", fmt::join(ours, "|")), pieces.toStdString());
}

void TestTokenizer::normalizers_data()
{
    QTest::addColumn<QString>("normalizer");
    QTest::addColumn<QString>("text");
    QTest::addColumn<QString>("normalized");
    const auto row = [](const char* normalizer, const QString& text, const QString& normalized) {
        QTest::addRow("%s %s", normalizer, qPrintable(text)) << normalizer << text << normalized;
    };
    row(R"({"type":"NFC"})", "e\u0301 \u212B", "\u00E9 \u00C5");
    row(R"({"type":"NFD"})", "\u00E9", "e\u0301");
    row(R"({"type":"NFKC"})", "\uFB01 \u00BD \uFF21", "fi 1\u20442 A");
    row(R"({"type":"NFKD"})", "\uFB01\u00E9", "fie\u0301");
    row(R"({"type":"Lowercase"})", "AbÉ\u0130", "abéi\u0307");
    row(R"({"type":"Strip","strip_left":true,"strip_right":false})", " \t a ", "a ");
    row(R"({"type":"Strip","strip_left":true,"strip_right":true})", " \u3000a\n", "a");
    row(R"({"type":"Strip","strip_left":true,"strip_right":true})", "  ", "");
    row(R"({"type":"Sequence","normalizers":[{"type":"NFD"},{"type":"StripAccents"}]})", "\u00E9a\u0302", "ea");
    row(R"({"type":"Prepend","prepend":"_"})", "a b", "_a b");
    row(R"({"type":"Prepend","prepend":"_"})", "", "");
    row(R"({"type":"Replace","pattern":{"String":"ab"},"content":""})", "abcab", "c");
    row(R"({"type":"Replace","pattern":{"Regex":"\\s+"},"content":" "})", "a \n\tb  ", "a b ");
}

void TestTokenizer::normalizers()
{
    QFETCH(QString, normalizer);
    QFETCH(QString, text);
    QFETCH(QString, normalized);
    const Tokenizer tokenizer =
        parsed(byteLevelJson([&](Json& json) { json["normalizer"] = Json::parse(normalizer.toStdString()); }));
    QCOMPARE(tokenizer.decode(encoded(tokenizer, text.toStdString()), false), normalized.toStdString());
    // With offsets the text takes another way through the Unicode forms.
    QCOMPARE(tokenizer.decode(encoded(tokenizer, text.toStdString(), { .offsets = true }), false),
             normalized.toStdString());
}

void TestTokenizer::metaspace()
{
    const auto withScheme = [](const char* scheme, bool split) {
        return parsed(Json {
            { "model",
              { { "type", "BPE" },
                { "vocab", { { "a", 0 }, { "▁", 1 }, { "▁a", 2 }, { "a▁", 3 }, { "<x>", 4 } } },
                { "merges", Json::array({ "a ▁", "▁ a" }) } } },
            { "added_tokens", Json::array({ { { "id", 4 }, { "content", "<x>" } } }) },
            { "pre_tokenizer",
              { { "type", "Metaspace" }, { "replacement", "▁" }, { "prepend_scheme", scheme }, { "split", split } } },
            { "decoder", { { "type", "Metaspace" }, { "replacement", "▁" }, { "prepend_scheme", scheme } } } }
                          .dump());
    };
    const Tokenizer always = withScheme("always", true);
    QCOMPARE(joined(encoded(always, "a a<x>a")), joined({ 2, 2, 4, 2 }));
    QCOMPARE(always.decode(Ids { 2, 2 }, false), std::string("a a"));
    const Tokenizer first = withScheme("first", true);
    QCOMPARE(joined(encoded(first, "a a<x>a")), joined({ 2, 2, 4, 0 }));
    const Tokenizer never = withScheme("never", false);
    QCOMPARE(joined(encoded(never, "a a")), joined({ 3, 0 }));
    QCOMPARE(never.decode(Ids { 2, 2 }, false), std::string(" a a"));
}

void TestTokenizer::decoders()
{
    const auto with = [](const char* decoder) {
        return parsed(Json { { "model",
                               { { "type", "BPE" },
                                 { "vocab",
                                   { { "▁hi", 0 },
                                     { "<0xF0>", 1 },
                                     { "<0x9F>", 2 },
                                     { "<0x99>", 3 },
                                     { "<0x82>", 4 },
                                     { "x</w>", 5 } } },
                                 { "merges", Json::array() } } },
                             { "decoder", Json::parse(decoder) } }
                          .dump());
    };
    const Tokenizer llama = with(R"({"type":"Sequence","decoders":[
        {"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},
        {"type":"Strip","content":" ","start":1,"stop":0}]})");
    QCOMPARE(llama.decode(Ids { 0, 1, 2, 3, 4, 0 }, false), std::string("hi🙂 hi"));
    QCOMPARE(llama.decode(Ids { 0, 1, 2, 0 }, false), std::string("hi\uFFFD\uFFFD hi"));
    QCOMPARE(llama.decode(Ids { 0, 999, -5 }, false), std::string("hi"));
    QCOMPARE(llama.decode(Ids {}, false), std::string());
    QCOMPARE(with(R"({"type":"BPEDecoder","suffix":"</w>"})").decode(Ids { 5, 5 }, false), std::string("x x"));
}

void TestTokenizer::templates()
{
    const Tokenizer tokenizer = parsed(byteLevelJson([](Json& json) {
        json["post_processor"] = Json::parse(R"({"type":"Sequence","processors":[
            {"type":"ByteLevel","trim_offsets":false},
            {"type":"TemplateProcessing",
             "single":[{"SpecialToken":{"id":"s","type_id":0}},{"Sequence":{"id":"A","type_id":0}},
                       {"SpecialToken":{"id":"e","type_id":0}}],
             "special_tokens":{"s":{"id":"s","ids":[1,2],"tokens":["x","y"]},"e":{"id":"e","ids":[3],"tokens":["z"]}}}]})");
    }));
    QCOMPARE(joined(encoded(tokenizer, "a")), joined({ 1, 2, 'a', 3 }));
    const auto tooShort = tokenizer.encode("a", { .maxLength = 2 });
    QVERIFY(!tooShort);
    QCOMPARE(tooShort.error().code, Errc::FieldInvalid);
    const Tokenizer bert = parsed(byteLevelJson([](Json& json) {
        json["post_processor"] = Json::parse(R"({"type":"BertProcessing","sep":["s",7],"cls":["c",8]})");
    }));
    QCOMPARE(joined(encoded(bert, "a")), joined({ 8, 'a', 7 }));
}

void TestTokenizer::configurationFiles()
{
    const QTemporaryDir folder;
    const fs::path path = folder.path().toStdString();
    QVERIFY(writeFileAtomically(path / "tokenizer.json", byteLevelJson()));
    QVERIFY(writeFileAtomically(path / "tokenizer_config.json", R"({"tokenizer_class":"LlamaTokenizerFast",
        "truncation_side":"left","padding_side":"left","add_bos_token":true,"add_eos_token":true,
        "bos_token":{"content":"<s>","special":true},"eos_token":"</s>","pad_token":"!",
        "clean_up_tokenization_spaces":true,
        "added_tokens_decoder":{"256":{"content":"<s>","special":true},"257":{"content":"<more>","special":false}}})"));
    const Tokenizer tokenizer = loaded(path);
    QCOMPARE(tokenizer.truncationSide(), Side::Left);
    QCOMPARE(tokenizer.paddingSide(), Side::Left);
    QCOMPARE(joined(encoded(tokenizer, "a<more>")), joined({ 256, 'a', 257, 258 }));
    QCOMPARE(tokenizer.specialTokens().pad.value_or(-1), TokenId { '!' });
    QCOMPARE(tokenizer.vocabSize(), 259);
    QCOMPARE(tokenizer.decode(encoded(tokenizer, "it 's a ."), true), std::string("it's a."));

    QVERIFY(writeFileAtomically(path / "tokenizer_config.json", R"({"truncation_side":"up"})"));
    std::vector<Warning> warnings;
    const auto refused = Tokenizer::load(path, warnings);
    QVERIFY(!refused);
    QCOMPARE(refused.error().code, Errc::FieldInvalid);
}

void TestTokenizer::sentencePieceFolder()
{
    bool any = false;
    for (const fs::path& folder : tableFolders()) {
        if (!fs::exists(folder / "tokenizer.model") || !fs::exists(folder / "tokenizer_config.json")) {
            continue;
        }
        any = true;
        const QTemporaryDir temporary;
        const fs::path path = temporary.path().toStdString();
        fs::copy_file(folder / "tokenizer.model", path / "tokenizer.model");
        fs::copy_file(folder / "tokenizer_config.json", path / "tokenizer_config.json");
        const Tokenizer fromModel = loaded(path);
        const Tokenizer fromJson = loaded(folder);
        QCOMPARE(fromModel.vocabSize(), fromJson.vocabSize());
        QCOMPARE(fromModel.specialTokens().bos.value_or(-1), fromJson.specialTokens().bos.value_or(-2));
        QCOMPARE(fromModel.specialTokens().pad.value_or(-1), fromJson.specialTokens().pad.value_or(-2));
        for (const std::string text : { "pick up the red block\n", "naïve 字 🙂", "10 20", "" }) {
            QCOMPARE(joined(encoded(fromModel, text)), joined(encoded(fromJson, text)));
            QCOMPARE(fromModel.decode(encoded(fromModel, text)), text);
            QCOMPARE(joined(encoded(fromModel, text, { .offsets = true })), joined(encoded(fromModel, text)));
        }
    }
    QVERIFY(any);
}

QTEST_APPLESS_MAIN(TestTokenizer)
#include "tst_tokenizer.moc"

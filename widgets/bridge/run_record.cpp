// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/run_record.h"

#include "widgets/bridge/text.h"

#include <nlohmann/json.hpp>

#include <QCoreApplication>
#include <QStringList>

#include <algorithm>
#include <span>

namespace rankwise::bridge {

namespace {

const LayerTable& noLayers()
{
    static const LayerTable kNone;
    return kNone;
}

} // namespace

const LayerTable& RunRecord::layersOf(const data::DigestColumns& digest) const
{
    const auto found = tables.find(digest.table);
    return found == tables.end() ? noLayers() : found->second;
}

const LayerTable& RunRecord::layers() const
{
    if (!digests.empty()) {
        return layersOf(*digests.back());
    }
    return tables.empty() ? noLayers() : tables.rbegin()->second;
}

DigestPtr RunRecord::digestAt(std::int64_t step) const
{
    if (digests.empty() || step < 0) {
        return digests.empty() ? nullptr : digests.back();
    }
    const auto after = std::upper_bound(digests.begin(), digests.end(), step,
                                        [](std::int64_t s, const DigestPtr& digest) { return s < digest->step; });
    return after == digests.begin() ? nullptr : *std::prev(after);
}

std::string RunRecord::method() const
{
    if (!run) {
        return {};
    }
    const auto found = run->find("method");
    if (found == run->end() || !found->is_object()) {
        return {};
    }
    const auto type = found->find("type");
    return type != found->end() && type->is_string() ? type->get<std::string>() : std::string();
}

QString RunRecord::basePolicy() const
{
    const Json* value = run.get();
    for (const char* key : { "config", "policy", "path" }) {
        if (value == nullptr || !value->is_object() || !value->contains(key)) {
            return {};
        }
        value = &(*value)[key];
    }
    return value->is_string() ? toQString(value->get<std::string>()) : QString();
}

std::optional<double> RunRecord::parameter(const std::string& name) const
{
    for (auto event = events.rbegin(); event != events.rend(); ++event) {
        if (event->kind == "set" && event->fields.value("name", std::string()) == name
            && event->fields.contains("value") && event->fields["value"].is_number()) {
            return event->fields["value"].get<double>();
        }
    }
    if (run) {
        const auto found = run->find("method");
        if (found != run->end() && found->is_object() && found->contains(name) && (*found)[name].is_number()) {
            return (*found)[name].get<double>();
        }
    }
    return std::nullopt;
}

std::vector<KindRow> kindRows(const data::DigestColumns& digest)
{
    constexpr std::size_t kHead = 4; // layer, kind, tokens, rank
    std::vector<KindRow> rows;
    for (std::size_t i = 0; i < digest.kinds.size(); ++i) {
        const std::span<const float> row = digest.kinds.row(i);
        if (row.size() >= kHead && row[1] >= 0 && row[1] < kTokenKinds) {
            rows.push_back(
                { static_cast<std::size_t>(row[0]), static_cast<int>(row[1]), row[2], row[3], row.subspan(kHead) });
        }
    }
    return rows;
}

QString tokenKindName(int kind)
{
    switch (kind) {
    case 0:
        return QCoreApplication::translate("TokenKinds", "image");
    case 1:
        return QCoreApplication::translate("TokenKinds", "language");
    case 2:
        return QCoreApplication::translate("TokenKinds", "state");
    case 3:
        return QCoreApplication::translate("TokenKinds", "action");
    default:
        return QCoreApplication::translate("TokenKinds", "other");
    }
}

QString shortLayerName(const std::string& path)
{
    const QStringList parts = toQString(path).split(QLatin1Char('.'));
    // The part of the model, the layer's number, and what it is: "vision 3 q_proj".
    QString part;
    QString number;
    for (const QString& word : parts) {
        if (word.contains(QLatin1String("vision"))) {
            part = QStringLiteral("vision");
        } else if (word.contains(QLatin1String("expert")) && word != QLatin1String("vlm_with_expert")) {
            part = QStringLiteral("expert");
        } else if (word.contains(QLatin1String("text")) || word == QLatin1String("language_model")) {
            part = QStringLiteral("text");
        }
        bool isNumber = false;
        (void)word.toInt(&isNumber);
        number = isNumber ? word : number;
    }
    QStringList name;
    for (const QString& piece : { part, number, parts.back() }) {
        if (!piece.isEmpty()) {
            name << piece;
        }
    }
    return name.join(QLatin1Char(' '));
}

QString groupName(std::int64_t group)
{
    switch (group) {
    case 0:
        return QCoreApplication::translate("Groups", "vision");
    case 1:
        return QCoreApplication::translate("Groups", "language");
    case 2:
        return QCoreApplication::translate("Groups", "action");
    default:
        return QCoreApplication::translate("Groups", "projection");
    }
}

} // namespace rankwise::bridge

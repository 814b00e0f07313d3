// libFuzzer target: no configuration may crash or hang; what parses is written and parses to the same again.
// Every parser gets every input; a zero byte separates config.json from vlm_config.json.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/json.h"
#include "backend/io/adapter_config.h"
#include "backend/io/policy_config.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <nlohmann/json.hpp>

namespace {

using namespace rankwise;

void policy(std::string_view text)
{
    const std::size_t zero = std::min(text.find('\0'), text.size());
    const std::string_view vlm = zero < text.size() ? text.substr(zero + 1) : std::string_view();
    std::vector<Warning> warnings;
    const auto config = io::parsePolicyConfig(text.substr(0, zero), vlm, "fuzz", warnings);
    if (!config) {
        return;
    }
    std::string vlmText;
    if (const auto* smolvla = config->smolvla(); smolvla != nullptr && smolvla->vlmFromFile) {
        vlmText = jsonText(io::vlmConfigJson(smolvla->vlm));
    }
    const auto again = io::parsePolicyConfig(jsonText(io::policyConfigJson(*config)), vlmText, "fuzz", warnings);
    if (!again || io::policyConfigJson(*again) != io::policyConfigJson(*config)) {
        std::abort();
    }
}

void adapter(std::string_view text)
{
    std::vector<Warning> warnings;
    const auto config = io::parseAdapterConfig(text, "fuzz", warnings);
    if (!config) {
        return;
    }
    if (const auto matcher = io::AdapterMatcher::make(*config, "fuzz")) {
        (void)matcher->targets("model.layers.3.self_attn.q_proj");
        (void)matcher->rank("model.layers.3.self_attn.q_proj");
        (void)matcher->alpha("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    }
    const auto again = io::parseAdapterConfig(jsonText(io::adapterConfigJson(*config)), "fuzz", warnings);
    if (!again || io::adapterConfigJson(*again) != io::adapterConfigJson(*config)) {
        std::abort();
    }
}

void pipeline(std::string_view text)
{
    std::vector<Warning> warnings;
    const auto parsed = io::parseProcessorPipeline(text, "fuzz", warnings);
    if (!parsed) {
        return;
    }
    const auto again = io::parseProcessorPipeline(jsonText(io::processorPipelineJson(*parsed)), "fuzz", warnings);
    if (!again || !(*again == *parsed)) {
        std::abort();
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    policy(text);
    adapter(text);
    pipeline(text);
    return 0;
}

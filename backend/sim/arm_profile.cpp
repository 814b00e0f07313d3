// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/arm_profile.h"

namespace rankwise::sim {
namespace {

constexpr std::array<ArmProfile, 2> kProfiles { {
    { ArmKind::Piper,
      "piper",
      { 0, 1.35, -1.25, 0, 0.75, 0 },
      1,
      1,
      { 0, 1.5, -0.9, 0, 0.6, 0 },
      { 0, 1.4, -0.9, 0, -0.5, 0 } },
    { ArmKind::Generic,
      "generic",
      { 0, 0.1, -0.25, 0, -1.0, 0 },
      -1,
      -1,
      { 0, 0.3, -0.4, 0, -0.9, 0 },
      { 0, 0.8, 0.1, 0, 0.1, 0 } },
} };

} // namespace

const ArmProfile& armProfile(ArmKind arm)
{
    for (const ArmProfile& profile : kProfiles) {
        if (profile.kind == arm) {
            return profile;
        }
    }
    RW_CHECK(false, "unknown arm");
    return kProfiles[0];
}

std::string_view armName(ArmKind arm)
{
    return armProfile(arm).name;
}

Result<ArmKind> armFromName(std::string_view name)
{
    std::string known;
    for (const ArmProfile& profile : kProfiles) {
        if (profile.name == name) {
            return profile.kind;
        }
        known += (known.empty() ? "" : ", ") + std::string(profile.name);
    }
    return fail(Errc::FieldInvalid, "no such arm; there are " + known, std::string(name));
}

} // namespace rankwise::sim

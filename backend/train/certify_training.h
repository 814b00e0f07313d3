// Golden cases of training: recorded optimiser steps and learning rates of the reference against ours.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/models/certify.h"

namespace rankwise::train {

/// Brings the kinds "training" (family smolvla) and "schedules" to models::certifyCase(). Call once, before it.
///
/// "training": the case's steps are run through runLoop() with the recorded batch, noise and times; loss, learning rate
/// and gradient norm of each step, and final values and moments are compared.
void registerTrainingCertification();

} // namespace rankwise::train

#pragma once

#include "core/cpu_state.h" // IWYU pragma: export

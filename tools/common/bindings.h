/* SPDX-License-Identifier: GPL-2.0 */
/* What the tools know of the system, by bindgen. */
#include "../../kselftest/rust/bindings.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>

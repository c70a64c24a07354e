/* SPDX-License-Identifier: GPL-2.0 */
/* Input of bindgen: the system headers that the tools use. */
#include "../../kselftest/rust/bindings.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>

// SPDX-License-Identifier: Apache-2.0

// Package envtest is a machine without a machine, for tests of what lies above
// it: supervisor and guest are real Connect handlers on real Unix sockets, and
// code is run by the host's own interpreters in a temporary directory. It is no
// sandbox. What needs a real guest is tested with host/vmtest.
package envtest

// SPDX-License-Identifier: Apache-2.0

package spec

// Symbols of libkrun, by what their absence means.
var (
	// FeatureSymbol came with 1.17.3, the first version with all that is needed.
	FeatureSymbol = "krun_has_feature"
	// BlockSymbols are in builds with BLK=1 alone.
	BlockSymbols = []string{"krun_add_disk2", "krun_set_root_disk_remount"}
	// NetSymbols are in builds with NET=1 alone.
	NetSymbols = []string{"krun_add_net_unixstream"}
	// CoreSymbols are in all builds since 1.17.0.
	CoreSymbols = []string{
		"krun_init_log", "krun_create_ctx", "krun_set_vm_config", "krun_disable_implicit_vsock",
		"krun_add_vsock", "krun_add_vsock_port2", "krun_set_exec", "krun_set_console_output",
		"krun_start_enter",
	}
)

// Later symbols tell later versions apart, newest first: libkrun has no call that
// says its version.
var Later = []struct{ Symbol, Version string }{
	{"krun_disable_implicit_init", "1.19.0"},
	{"krun_add_virtiofs3", "1.18.0"},
	{FeatureSymbol, "1.17.3"},
}

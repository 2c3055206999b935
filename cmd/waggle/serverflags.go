// SPDX-License-Identifier: Apache-2.0

package main

import "time"

// serverFlags are those of any process that has environments.
type serverFlags struct {
	vmFlags

	MaxEnvironments    int           `help:"Most environments at once." default:"10" env:"WAGGLE_MAX_ENVIRONMENTS"`
	MaxPerCaller       int           `name:"max-environments-per-caller" help:"Most environments of one caller at once, where callers have tokens; 0 is no limit but the one of all." default:"0" env:"WAGGLE_MAX_ENVIRONMENTS_PER_CALLER"`
	MaxCPUs            uint32        `name:"max-cpus" help:"Most virtual CPUs that a caller may ask for. Default: as many as this host has." env:"WAGGLE_MAX_CPUS" placeholder:"N"`
	MaxMemoryMB        uint32        `name:"max-memory-mb" help:"Most MiB of memory that a caller may ask for. Default: half of this host's." env:"WAGGLE_MAX_MEMORY_MB" placeholder:"N"`
	DefaultTimeoutMin  int           `help:"Minutes without activity after which an environment ends." default:"30" env:"WAGGLE_DEFAULT_TIMEOUT_MIN"`
	DefaultExecTimeout time.Duration `help:"Timeout of code when the caller names none." default:"30s" env:"WAGGLE_DEFAULT_EXEC_TIMEOUT"`
	MaxExecTimeout     time.Duration `help:"Longest timeout that a caller may name." default:"5m" env:"WAGGLE_MAX_EXEC_TIMEOUT"`
	OrphanTimeout      time.Duration `help:"How long the environments of this server live without one. Those that it takes over keep their own." default:"10m" env:"WAGGLE_ORPHAN_TIMEOUT"`
	Debug              bool          `help:"Log at debug level." env:"WAGGLE_DEBUG"`
}

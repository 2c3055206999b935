// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"github.com/stacklok/waggle/host/image"
)

// fetchFlags say how images are fetched, by every command that may fetch one.
type fetchFlags struct {
	AuthFile    string `name:"authfile" aliases:"auth-file" help:"Registry credentials, in place of the files of podman and docker." env:"WAGGLE_AUTH_FILE" placeholder:"FILE"`
	ImagePolicy string `help:"Which images are accepted: a containers-policy.json(5). Default: the user's, else the system's, else all." env:"WAGGLE_IMAGE_POLICY" placeholder:"FILE"`
}

// resolve is what the flags mean to the store.
func (f fetchFlags) resolve() image.ResolveOptions {
	return image.ResolveOptions{AuthFile: f.AuthFile, PolicyPath: f.ImagePolicy}
}

// check refuses files that are named and cannot be used, before anything is made.
// Without a name there may be no file.
func (f fetchFlags) check() error {
	if f.AuthFile != "" {
		if _, err := os.Stat(f.AuthFile); err != nil {
			return fmt.Errorf("WAGGLE_AUTH_FILE (--authfile): %w", err)
		}
	}
	if f.ImagePolicy == "" {
		return nil
	}
	if _, err := image.LoadPolicy(f.ImagePolicy); err != nil {
		return fmt.Errorf("WAGGLE_IMAGE_POLICY (--image-policy): %w", err)
	}
	return nil
}

// checkPolicy shows which policy applies to images.
func checkPolicy(path string) finding {
	const check = "image policy"
	p, err := image.LoadPolicy(path)
	if err != nil {
		return missing(check, err.Error(), "correct that file, or export WAGGLE_IMAGE_POLICY=FILE   # containers-policy.json(5)")
	}
	return good(check, p.String())
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/image"
)

// runtimePrefix begins the settings of runtimes, which have no flags: their names
// are not known beforehand.
const runtimePrefix = "WAGGLE_RUNTIME_"

var (
	runtimeName      = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,31}$`)
	runtimeExtension = regexp.MustCompile(`^\.[A-Za-z0-9]{1,16}$`)
)

// runtimeSetting is what the environment says of one runtime.
type runtimeSetting struct {
	image string
	environment.RuntimeSetting
}

// runtimes are the images and the settings of the runtimes, by their names. A new
// runtime is one that has an image and a command that runs its code.
func (f *vmFlags) runtimes(environ []string) (map[string]string, map[string]environment.RuntimeSetting, error) {
	found, err := readRuntimes(environ)
	if err != nil {
		return nil, nil, err
	}
	images := f.images()
	maps.DeleteFunc(images, func(_, ref string) bool { return ref == "" })
	settings := map[string]environment.RuntimeSetting{}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		s := found[name]
		if s.image == "" && !slices.Contains(environment.Runtimes(), name) {
			// WAGGLE_IMAGE_* is other tools' too: it counts for names that are known.
			s.image = valueOf(environ, "WAGGLE_IMAGE_"+strings.ToUpper(name))
		}
		if s.image != "" {
			if other := images[name]; other != "" && other != s.image {
				err = errors.Join(err, fmt.Errorf("%s%s_IMAGE and WAGGLE_IMAGE_%s differ: unset one of them", runtimePrefix, strings.ToUpper(name), strings.ToUpper(name)))
			}
			images[name] = s.image
		}
		if !slices.Contains(environment.Runtimes(), name) {
			err = errors.Join(err, checkNewRuntime(name, s, images[name]))
		}
		settings[name] = s.RuntimeSetting
	}
	return images, settings, err
}

func (f *vmFlags) checkRuntimes(environ []string) error {
	_, _, err := f.runtimes(environ)
	return err
}

// checkNewRuntime says what a runtime lacks that Waggle does not know by itself.
func checkNewRuntime(name string, s runtimeSetting, ref string) error {
	upper := strings.ToUpper(name)
	var err error
	if ref == "" {
		err = fmt.Errorf("runtime %s has no image: set %s%s_IMAGE", name, runtimePrefix, upper)
	}
	if len(s.Exec) == 0 {
		err = errors.Join(err, fmt.Errorf("runtime %s has no command that runs its code: set %s%s_EXEC_COMMAND, such as /usr/bin/%s", name, runtimePrefix, upper, name))
	}
	return err
}

func valueOf(environ []string, name string) string {
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// readRuntimes reads the settings WAGGLE_RUNTIME_<NAME>_<WHAT>. An empty value is as
// if it were not set. Every mistake is told.
func readRuntimes(environ []string) (map[string]runtimeSetting, error) {
	found := map[string]runtimeSetting{}
	var errs []error
	for _, kv := range slices.Sorted(slices.Values(environ)) {
		key, value, _ := strings.Cut(kv, "=")
		rest, ours := strings.CutPrefix(key, runtimePrefix)
		if !ours || value == "" {
			continue
		}
		name, set := splitRuntime(rest)
		if set == nil || !runtimeName.MatchString(name) {
			errs = append(errs, fmt.Errorf("%.80s is no setting: write %s<NAME>_IMAGE, _EXEC_COMMAND, _INSTALL_COMMAND or _EXTENSION", key, runtimePrefix))
			continue
		}
		s := found[strings.ToLower(name)]
		if err := set(&s, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
		found[strings.ToLower(name)] = s
	}
	return found, errors.Join(errs...)
}

// splitRuntime returns the runtime's name and what takes the setting's value, nil
// when there is no such setting.
func splitRuntime(rest string) (name string, set func(*runtimeSetting, string) error) {
	for suffix, set := range map[string]func(*runtimeSetting, string) error{
		"_IMAGE": func(s *runtimeSetting, v string) error {
			s.image = v
			return image.CheckReference(v)
		},
		"_EXEC_COMMAND":    func(s *runtimeSetting, v string) (err error) { s.Exec, err = commandLine(v); return err },
		"_INSTALL_COMMAND": func(s *runtimeSetting, v string) (err error) { s.Install, err = commandLine(v); return err },
		"_EXTENSION": func(s *runtimeSetting, v string) error {
			if !runtimeExtension.MatchString(v) {
				return fmt.Errorf("%.80q is not a dot and up to 16 letters and digits", v)
			}
			s.Extension = v
			return nil
		},
	} {
		if name, ok := strings.CutSuffix(rest, suffix); ok {
			return name, set
		}
	}
	return "", nil
}

// commandLine splits a command at white space. Quotes are refused, not kept: who
// writes them means something else by them.
func commandLine(text string) ([]string, error) {
	words := strings.Fields(text)
	if len(words) == 0 || !path.IsAbs(words[0]) {
		return nil, fmt.Errorf("%.80q does not begin with the absolute path of a program", text)
	}
	if strings.ContainsAny(text, "\"'`\\$") {
		return nil, fmt.Errorf("%.80q has quotes or a $: no shell reads it, arguments are separated by spaces alone", text)
	}
	return words, nil
}

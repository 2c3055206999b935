// SPDX-License-Identifier: Apache-2.0

//go:build linux

package jail

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// maxObjects bounds a closure; libkrun's has some ten.
const maxObjects = 128

// closure is a program with all that the dynamic loader needs for it.
type closure struct {
	// interp is the program's ELF interpreter; empty when it is static.
	interp string
	// libs are the libraries in the order in which they were found.
	libs []object
}

// object is a library: soname is the name that the loader looks for.
type object struct{ soname, path string }

// find returns the path of soname.
func (c *closure) find(soname string) (string, bool) {
	for _, o := range c.libs {
		if o.soname == soname {
			return o.path, true
		}
	}
	return "", false
}

// resolve finds what program and libs need. dirs are searched after the directories
// that an object names itself and the object's own.
func resolve(program string, libs, dirs []string) (*closure, error) {
	c := &closure{}
	main, err := readELF(program)
	if err != nil {
		return nil, err
	}
	c.interp = main.interp
	todo := []*dynamic{main}
	for _, path := range libs {
		d, err := readELF(path)
		if err != nil {
			return nil, err
		}
		c.libs = append(c.libs, object{d.soname, path})
		todo = append(todo, d)
	}
	for len(todo) > 0 {
		d := todo[0]
		todo = todo[1:]
		for _, soname := range d.needed {
			if _, ok := c.find(soname); ok {
				continue
			}
			if len(c.libs) >= maxObjects {
				return nil, fmt.Errorf("%s needs more than %d libraries", program, maxObjects)
			}
			found, err := d.search(soname, dirs, main.machine)
			if err != nil {
				return nil, err
			}
			c.libs = append(c.libs, object{soname, found.path})
			todo = append(todo, found)
		}
	}
	return c, nil
}

// dynamic is what the loader reads of an ELF file.
type dynamic struct {
	path    string
	machine elf.Machine
	interp  string
	soname  string
	needed  []string
	runpath []string
}

func readELF(path string) (*dynamic, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	defer f.Close()
	d := &dynamic{path: path, machine: f.Machine, soname: filepath.Base(path)}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		d.interp = strings.TrimRight(string(name), "\x00")
	}
	if d.needed, err = f.DynString(elf.DT_NEEDED); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if names, err := f.DynString(elf.DT_SONAME); err == nil && len(names) > 0 {
		d.soname = names[0]
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		paths, err := f.DynString(tag)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		for _, list := range paths {
			d.runpath = append(d.runpath, strings.Split(list, ":")...)
		}
	}
	return d, nil
}

// search looks for a library that d needs. A file for another machine is passed
// over, as the loader does.
func (d *dynamic) search(soname string, dirs []string, machine elf.Machine) (*dynamic, error) {
	if strings.Contains(soname, "/") {
		return readELF(soname)
	}
	origin := filepath.Dir(d.path)
	var places []string
	for _, dir := range d.runpath {
		dir = strings.NewReplacer("${ORIGIN}", origin, "$ORIGIN", origin).Replace(dir)
		if filepath.IsAbs(dir) {
			places = append(places, dir)
		}
	}
	places = append(append(places, origin), dirs...)
	for _, dir := range places {
		found, err := readELF(filepath.Join(dir, soname))
		if err == nil && found.machine == machine {
			return found, nil
		}
	}
	return nil, fmt.Errorf("%s needs %s, which is not in %s: install it, or set LD_LIBRARY_PATH to its directory: %w",
		d.path, soname, strings.Join(places, ", "), errMissingLibrary)
}

var errMissingLibrary = errors.New("library not found")

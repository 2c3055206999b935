// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"strings"

	"connectrpc.com/connect"
)

// Text is what an error says to people: the codes that a call over the wire puts
// before its words, such as "not_found: ", are for programs and are left out.
func Text(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	for _, coded := range calls(err) {
		words := coded.Message()
		if words == "" {
			words = strings.ReplaceAll(coded.Code().String(), "_", " ")
		}
		text = strings.Replace(text, coded.Error(), words, 1)
	}
	return text
}

// InWords is an error with that text, which still is what it was.
func InWords(err error) error {
	if err == nil {
		return nil
	}
	return worded{err}
}

type worded struct{ error }

func (w worded) Error() string { return Text(w.error) }

func (w worded) Unwrap() error { return w.error }

// calls are the errors of calls that err is made of, outer ones first.
func calls(err error) []*connect.Error {
	var found []*connect.Error
	switch e := err.(type) { //nolint:errorlint // each link of the chain is looked at by itself
	case *connect.Error:
		found = append(found, e)
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			found = append(found, calls(part)...)
		}
		return found
	}
	if inner := errors.Unwrap(err); inner != nil {
		found = append(found, calls(inner)...)
	}
	return found
}

package native

import "strings"

// Attempt is a place where the library was looked for, and the reason why it was not used.
type Attempt struct {
	Place string
	Err   error
}

// LoadError tells why the native library is not used.
type LoadError struct {
	// Attempts are in the order in which the places were tried.
	Attempts []Attempt
}

// Error lists every place and its reason.
func (e *LoadError) Error() string {
	reasons := make([]string, len(e.Attempts))
	for i, attempt := range e.Attempts {
		// The loader's message usually begins with the place.
		reason, _ := strings.CutPrefix(attempt.Err.Error(), attempt.Place+": ")
		reasons[i] = attempt.Place + ": " + reason
	}
	return "the native library cannot be loaded: " + strings.Join(reasons, "; ")
}

// Unwrap returns the reasons.
func (e *LoadError) Unwrap() []error {
	errs := make([]error, len(e.Attempts))
	for i, attempt := range e.Attempts {
		errs[i] = attempt.Err
	}
	return errs
}

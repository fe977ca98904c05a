// Package page holds what the pages of login and of checks agree on: how they look, and
// in which language they speak.
//
//	style, err := page.NewStyle(page.Sheet, page.DefaultAccent)
//	lang := page.Language(r.Header.Get("Accept-Language"), page.Languages)
//
// The stylesheet is part of the page, and the Content-Security-Policy names its hash: a
// page loads nothing, and runs no script.
package page

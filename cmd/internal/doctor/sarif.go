package doctor

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// SARIF is the report in the Static Analysis Results Interchange Format, version 2.1.0
// (OASIS), which forges show beside the lines of a change. The version is the
// program's. Marshal it with encoding/json.
func (r Report) SARIF(version string) any {
	driver := sarifDriver{Name: "coatcheck doctor", Version: version, Rules: []sarifRule{}}
	results := []sarifResult{}
	for _, rule := range table {
		if slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.ID == rule.ID }) {
			driver.Rules = append(driver.Rules, sarifRule{
				ID: string(rule.ID), Short: sarifText{rule.What}, Full: sarifText{rule.Why},
				Help: sarifText{rule.Cure + ". Source: " + rule.From + "."},
			})
		}
	}
	for _, f := range r.Findings {
		results = append(results, f.sarif())
	}
	return sarifLog{
		Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0",
		Runs: []sarifRun{{Tool: sarifTool{driver}, Results: results}},
	}
}

func (f Finding) sarif() sarifResult {
	physical := sarifPhysical{Artifact: sarifArtifact{uriOf(f.File)}}
	if f.Line > 0 {
		physical.Region = &sarifRegion{f.Line, f.Column}
	}
	sum := sha256.Sum256([]byte(string(f.ID) + "\x00" + f.File + "\x00" + f.Path))
	return sarifResult{
		Rule: string(f.ID), Level: string(f.Severity), Message: sarifText{f.What + ": " + f.Here + ". Cure: " + f.Cure + "."},
		Locations: []sarifLocation{{Physical: physical, Logical: []sarifLogical{{f.Path}}}},
		// The same finding in another version of the file, whose lines have moved.
		Fingerprints: map[string]string{"place/v1": hex.EncodeToString(sum[:16])},
	}
}

// uriOf is a file's name as a URI, relative where the name is.
func uriOf(file string) string {
	if file == "-" {
		return "stdin"
	}
	if strings.Contains(file, "://") {
		return file
	}
	return (&url.URL{Path: filepath.ToSlash(file)}).String()
}

type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool    sarifTool     `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID    string    `json:"id"`
		Short sarifText `json:"shortDescription"`
		Full  sarifText `json:"fullDescription"`
		Help  sarifText `json:"help"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		Rule         string            `json:"ruleId"`
		Level        string            `json:"level"`
		Message      sarifText         `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		Line   int `json:"startLine"`
		Column int `json:"startColumn,omitempty"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
	}
)

/**
 * Answers to questions of agents (ADR 0026). The scripts of libs/lifecycle decide a question's state. This library lists
 * questions for people, takes their answers, and enters each answer in the audit log, with the text that the person saw.
 */
export * from './approvals';
export * from './approvals.module';

/**
 * Answers to what agents ask people (ADR 0026). The scripts of libs/lifecycle decide what a question's state is;
 * this library lists questions for people, takes their answers, and sees to it that the audit log has each answer with the text that was seen.
 */
export * from './approvals';
export * from './approvals.module';
